"""The kinds of panel that the pages are made of. Blanks are as xai_runbook.dashboards says; `$name` is Grafana's."""

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
RIGHT, WRONG = "green", "red"
Side = Literal["above", "below"]


def page(title: str, uid: str, description: str, *, instances: str = "") -> dashboard.Dashboard:
    """A dashboard without panels; `instances` is the metric whose instances can be chosen from."""
    whole = (
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
        whole = whole.with_variable(
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
    return whole


def lines(
    title: str, unit: str, description: str, *queries: tuple[str, str], limit: str = "", side: Side = "above",
    least: float | None = 0, width: int = 12,
) -> timeseries.Panel:  # fmt: skip
    """Lines over time of (PromQL, legend); with the name of a limit, its threshold as a line."""
    panel = (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .description(f"{description} Alert ${{limit.{limit}.words}}." if limit else description)
        .datasource(SOURCE)
        .span(width)
        .height(8)
        .show_points(VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if least is not None:
        panel = panel.min(least)
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
    """The newest value of each series, green or red where there is a limit."""
    panel = (
        stat.Panel()
        .title(title)
        .unit(unit)
        .description(f"{description} Alert ${{limit.{limit}.words}}." if limit else description)
        .datasource(SOURCE)
        .span(width)
        .height(4)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(prometheus.Dataquery().expr(promql).legend_format(legend).ref_id("A").instant())
    )
    return panel.thresholds(thresholds(limit, side)) if limit else panel


def thresholds(limit: str, side: Side) -> dashboard.ThresholdsConfig:
    """Two colours, on either side of the limit's threshold."""
    under, over = (RIGHT, WRONG) if side == "above" else (WRONG, RIGHT)
    steps = [Threshold(color=under), Threshold(value=f"${{limit.{limit}}}", color=over)]  # type: ignore[arg-type]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
