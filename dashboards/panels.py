"""Panel types of the pages. Placeholders are those of xai_runbook.dashboards; `$name` is a variable of Grafana."""

from __future__ import annotations

from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableOption,
    VariableRefresh,
)

from xai_runbook.dashboards import TAG

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
GOOD, BAD = "green", "red"
Side = Literal["above", "below"]


def page(title: str, uid: str, description: str, *, instances: str = "") -> dashboard.Dashboard:
    """Return a dashboard without panels; with `instances`, a metric, its instances can be selected."""
    empty = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("utc")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    if instances:
        empty = empty.with_variable(
            dashboard.QueryVariable("instance")
            .label("Instance")
            .query(f"label_values({instances}, instance)")
            .datasource(SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .multi(True)
            .all_value(".*")
            .hide(VariableHide.DONT_HIDE)
            .current(VariableOption(selected=True, text="All", value="$__all"))
        )
    return empty


def lines(
    title: str, unit: str, description: str, *queries: tuple[str, str], limit: str = "", side: Side = "above",
    minimum: float | None = 0, width: int = 12,
) -> timeseries.Panel:  # fmt: skip
    """Return a panel of lines over time from (PromQL, legend), with the threshold of `limit` as a line."""
    panel = (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .description(f"{description} Alert ${{limit.{limit}.description}}." if limit else description)
        .datasource(SOURCE)
        .span(width)
        .height(8)
        .show_points(VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if minimum is not None:
        panel = panel.min(minimum)
    if limit:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE_AND_AREA)
        panel = panel.thresholds(thresholds(limit, side)).thresholds_style(style)
    for letter, (promql, legend) in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(prometheus.Dataquery().expr(promql).legend_format(legend).ref_id(letter).range())
    return panel


def number(
    title: str, unit: str, description: str, promql: str, *, legend: str = "__auto", limit: str = "",
    side: Side = "above", width: int = 6,
) -> stat.Panel:  # fmt: skip
    """Return a panel with the latest value of each series, green or red if there is a limit."""
    panel = (
        stat.Panel()
        .title(title)
        .unit(unit)
        .description(f"{description} Alert ${{limit.{limit}.description}}." if limit else description)
        .datasource(SOURCE)
        .span(width)
        .height(4)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(prometheus.Dataquery().expr(promql).legend_format(legend).ref_id("A").instant())
    )
    return panel.thresholds(thresholds(limit, side)) if limit else panel


def thresholds(limit: str, side: Side) -> dashboard.ThresholdsConfig:
    """Return the colours below and above the limit's threshold; `side` is the bad side."""
    lower, upper = (GOOD, BAD) if side == "above" else (BAD, GOOD)
    steps = [Threshold(color=lower), Threshold(value=f"${{limit.{limit}}}", color=upper)]  # type: ignore[arg-type]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
