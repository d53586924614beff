"""A few shapes of chart: what a frame of history looks like beside its limit. matplotlib is imported on first use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import inert
from xai_runbook.findings import Limit, quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

MOST_LINES = 8
MOST_NAMED = 5
_LIMIT_COLOUR = "#b3001b"


def timeline(history: DataFrame, limit: Limit | None = None, *, title: str = "", unit: str = "") -> Axes:
    """Axes with a line a series over time (UTC), the limit dashed, and the times shaded in which it was passed.

    `history` is a range query's frame: label columns, `at`, `value`. A gap in the samples is a gap in the line. Only
    the MOST_LINES series nearest to the limit's wrong side are drawn, and the title says how many there are.
    """
    unit = unit or (limit.unit if limit else "")
    axes = _axes(title or (limit.title if limit else ""))
    series = _series(history)
    if not series:
        axes.text(0.5, 0.5, "no samples in this window", transform=axes.transAxes, ha="center", va="center")
    series.sort(key=lambda named: float(named[1].min() if limit and limit.direction == "below" else -named[1].max()))
    for name, values in series[:MOST_LINES]:
        (line,) = axes.plot(values.index, values.to_numpy(), linewidth=1.2, label=name)
        for start, end in _passed(values, limit):
            axes.axvspan(start, end, color=_LIMIT_COLOUR, alpha=0.12, linewidth=0)
            axes.plot(values[start:end].index, values[start:end].to_numpy(), color=line.get_color(), linewidth=2.4)
    if len(series) > MOST_LINES:
        axes.set_title(f"{axes.get_title(loc='left')} ({MOST_LINES} of {len(series)} series)", loc="left")
    if limit is not None:
        axes.axhline(
            limit.threshold, color=_LIMIT_COLOUR, linestyle="--", linewidth=1, label=f"alert {limit.describe()}"
        )
    _format(axes, unit)
    if series:
        axes.legend(loc="upper left", fontsize="small", frameon=False, ncols=3)
    return axes


def bars(
    frame: DataFrame, *, label: str, value: str, limit: Limit | None = None, title: str = "", unit: str = ""
) -> Axes:
    """Axes with a horizontal bar a row: column `value` by column `label`, the limit as a dashed line."""
    unit = unit or (limit.unit if limit else "")
    axes = _axes(title or (limit.title if limit else ""), height=0.6 + 0.35 * max(1, min(len(frame), 20)))
    shown = frame.head(20).iloc[::-1]
    names = [_plain(name) for name in shown[label]]
    numbers = [float(number) for number in shown[value]]
    wrong = [limit is not None and not math.isnan(number) and limit.exceeded(number) for number in numbers]
    colours = [_LIMIT_COLOUR if bad else "#4c78a8" for bad in wrong]
    # what has no length is said in words beside an empty bar
    lengths = [number if math.isfinite(number) else 0.0 for number in numbers]
    drawn = axes.barh(range(len(names)), lengths, tick_label=names, color=colours)
    axes.bar_label(drawn, labels=[f" {quantity(number, unit)}" for number in numbers], fontsize="small")
    if limit is not None:
        axes.axvline(limit.threshold, color=_LIMIT_COLOUR, linestyle="--", linewidth=1)
    axes.xaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    axes.margins(x=0.2)
    if unit == "bytes":
        axes.set_xticks(_powers_of_two(*axes.get_xlim()))
    return axes


def tree(frame: DataFrame, *, label: str, value: str, title: str = "", unit: str = "seconds") -> Axes:
    """Axes with a line of text a row, indented by `depth` below the row it hangs on, and `value` behind it.

    `frame` is in the tree's order; `depth` 0 hangs on nothing and is drawn in the colour of limits.
    """
    shown = frame.head(30)
    axes = _axes(title, height=0.8 + 0.3 * max(1, len(shown)))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(max(1, len(shown)) - 0.5, -0.5)
    if shown.empty:
        axes.text(0.5, 0, "nobody", ha="center", va="center")
    above: dict[int, int] = {}
    for place, (depth, name, number) in enumerate(zip(shown["depth"], shown[label], shown[value], strict=True)):
        left, above[depth] = 0.02 + 0.05 * depth, place
        if depth:
            axes.plot([left - 0.04, left - 0.04, left - 0.01], [above[depth - 1] + 0.3, place, place], color="#8c959f")
        said = "" if number is None or math.isnan(number) else f"  {quantity(float(number), unit)}"
        axes.text(left, place, f"{_plain(name, 90)}{said}", va="center", color="black" if depth else _LIMIT_COLOUR)
    if len(frame) > len(shown):
        axes.set_title(f"{axes.get_title(loc='left')} ({len(shown)} of {len(frame)})", loc="left")
    return axes


def live(title: str = "Connections", unit: str = "sessions") -> Callable[[DataFrame], None]:
    """What draws a frame of looks anew each time it is given one, in a notebook; elsewhere it does nothing.

    A column of the frame that ends in `_count` is a line; `at` is the time.
    """
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return lambda _: None
    from IPython.display import display
    from matplotlib import pyplot

    handle = display(display_id=True)

    def draw(looks: DataFrame) -> None:
        counts = [column for column in map(str, looks.columns) if column.endswith("_count")]
        history = looks.melt("at", counts, var_name="what").dropna(subset="value")
        axes = timeline(history.astype({"value": float}), title=title, unit=unit)
        figure = axes.get_figure(root=True)
        handle.update(figure)
        pyplot.close(figure)  # else it is shown once more at the cell's end

    return draw


def scatter(
    frame: DataFrame,
    *more: DataFrame,
    x: str,
    y: str,
    label: str,
    limit: Limit | None = None,
    title: str = "",
    unit: str = "",
) -> Axes:
    """Axes with a point a row of the frames, both axes logarithmic, the limit on `y` as a dashed line.

    A row that is in several frames is one point. The MOST_NAMED points with the greatest product of both are named.
    """
    import pandas as pd

    unit = unit or (limit.unit if limit else "")
    axes = _axes(title or (limit.title if limit else ""), height=3.6)
    columns = [label, x, y]
    shown = pd.concat([each[columns] for each in (frame, *more) if len(each)] or [frame[columns]]).drop_duplicates(
        label
    )
    shown = shown[(shown[x] > 0) & (shown[y] > 0)]  # nothing else has a place on these axes
    if shown.empty:
        axes.text(0.5, 0.5, f"nothing to show: no {x} yet", transform=axes.transAxes, ha="center", va="center")
    else:
        axes.set_xscale("log")
        axes.set_yscale("log")
        decades = [math.log10(float(end)) for end in (shown[x].min(), shown[x].max())]
        axes.set_xlim(10 ** math.floor(decades[0]), 10 ** (math.floor(decades[1]) + 1.4))  # names need room
    wrong = [limit is not None and limit.exceeded(float(number)) for number in shown[y]]
    axes.scatter(shown[x], shown[y], s=28, c=[_LIMIT_COLOUR if bad else "#4c78a8" for bad in wrong], zorder=3)
    weight = (shown[x].astype(float) * shown[y].astype(float)).sort_values(ascending=False)
    for row in shown.loc[weight.index[:MOST_NAMED]].itertuples(index=False):
        name, across, up = (getattr(row, column) for column in columns)
        axes.annotate(
            _plain(name, 32), (across, up), xytext=(5, 3), textcoords="offset points", fontsize="x-small",
            annotation_clip=True,
        )  # fmt: skip
    if limit is not None:
        axes.axhline(limit.threshold, color=_LIMIT_COLOUR, linestyle="--", linewidth=1)
    axes.set_xlabel(x.replace("_", " "), fontsize="small")
    axes.set_ylabel(y.removesuffix("_seconds").replace("_", " "), fontsize="small")
    axes.yaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    return axes


def _axes(title: str, height: float = 2.6) -> Axes:
    import matplotlib.pyplot as plt

    plt.rcParams["figure.max_open_warning"] = 0  # a notebook of many charts keeps none of them open on purpose
    _, axes = plt.subplots(figsize=(9, height), layout="constrained")
    axes.set_title(_plain(title, 100), loc="left", fontsize="medium", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.25)
    return axes


def _plain(text: object, most: int = 40) -> str:
    """Text that matplotlib draws as it is: no formula between dollar signs, and never left out of a legend."""
    shown = inert(str(text), most).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _series(history: DataFrame) -> list[tuple[str, Series[Any]]]:
    """A name and a time-indexed series for each combination of labels, with a NaN where samples are missing."""
    labels = [column for column in history.columns if column not in ("at", "value")]
    # labels that are the same everywhere name nothing
    telling = [column for column in labels if history[column].nunique() > 1]
    if not labels:
        groups: Any = [("value", history)] if len(history) else []
    else:
        groups = history.groupby(telling or labels[:1], observed=True, sort=True)
    named = []
    for key, rows in groups:
        name = " ".join(_plain(part) for part in (key if isinstance(key, tuple) else (key,)))
        named.append((name, _broken(rows.set_index("at")["value"].sort_index())))
    return named


def _broken(values: Series[Any]) -> Series[Any]:
    """The series with a NaN put into every gap of more than three usual steps, so that no line bridges it."""
    if len(values) < 3:
        return values
    import pandas as pd

    steps = values.index.to_series().diff()
    gaps = steps[steps > 3 * steps.median()]
    if gaps.empty:
        return values
    middles = pd.Series(float("nan"), index=pd.DatetimeIndex(gaps.index - gaps / 2))
    whole: Series[Any] = pd.concat([values, middles]).sort_index()
    return whole


def _passed(values: Series[Any], limit: Limit | None) -> list[tuple[Any, Any]]:
    """Start and end of every stretch that stayed on the wrong side for the limit's duration or longer."""
    if limit is None or values.empty:
        return []
    wrong = values > limit.threshold if limit.direction == "above" else values < limit.threshold
    stretches = (wrong != wrong.shift()).cumsum()[wrong]
    spans = [(rows.index[0], rows.index[-1]) for _, rows in stretches.groupby(stretches)]
    return [(start, end) for start, end in spans if (end - start).total_seconds() >= limit.duration_seconds]


def _format(axes: Axes, unit: str) -> None:
    from datetime import UTC

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.set_xlabel("UTC", fontsize="small")
    if unit:
        axes.yaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    else:
        axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.tick_params(labelsize="small")
    low, high = axes.get_ylim()
    if unit != "blocks" or low < 0:
        low = 0.0  # nothing here can be negative, and a share or a count means most when it is seen from nothing
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high and (unit != "ratio" or tick <= 1)]
    if unit == "bytes":
        ticks = _powers_of_two(low, high)
    axes.set_ylim(low, high + 0.25 * (high - low))  # the legend's place
    axes.set_yticks(ticks)


def _powers_of_two(low: float, high: float) -> list[float]:
    """At most nine ticks between two sizes, round in KiB, MiB or GiB."""
    if high <= low:
        return []
    step = 2.0 ** math.ceil(math.log2((high - low) / 8))
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
