"""Bars, a tree of text, points, and a chart that is redrawn as data arrives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from xai_runbook.charts.drawing import COLOURS, LIMIT_COLOUR, add_to_title, draw_empty, new_axes, plain, powers_of_two
from xai_runbook.charts.timelines import timeline
from xai_runbook.model.findings import Limit
from xai_runbook.model.units import quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from pandas import DataFrame

MAX_LABELLED = 5


def bars(
    frame: DataFrame, *, label: str, value: str, limit: Limit | None = None, title: str = "", unit: str = ""
) -> Axes:
    """Draw one horizontal bar per row: column `value` by column `label`, with the limit as a dashed line."""
    unit = unit or (limit.unit if limit else "")
    axes = new_axes(title or (limit.title if limit else ""), height=0.6 + 0.35 * max(1, min(len(frame), 20)))
    if frame.empty:
        draw_empty(axes, f"there is no {label} to show")
        return axes
    shown = frame.head(20).iloc[::-1]
    names = [plain(name) for name in shown[label]]
    numbers = [float(number) for number in shown[value]]
    wrong = [limit is not None and not math.isnan(number) and limit.exceeded(number) for number in numbers]
    colours = [LIMIT_COLOUR if bad else COLOURS[0] for bad in wrong]
    # NaN and infinity have an empty bar with the value written beside it
    lengths = [number if math.isfinite(number) else 0.0 for number in numbers]
    container = axes.barh(range(len(names)), lengths, tick_label=names, color=colours)
    axes.bar_label(container, labels=[f" {quantity(number, unit)}" for number in numbers], fontsize="small")
    if limit is not None:
        axes.axvline(limit.threshold, color=LIMIT_COLOUR, linestyle="--", linewidth=1)
    axes.xaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    axes.margins(x=0.2)
    if unit == "bytes":
        axes.set_xticks(powers_of_two(*axes.get_xlim()))
    return axes


def tree(frame: DataFrame, *, label: str, value: str, title: str = "", unit: str = "seconds") -> Axes:
    """Draw one line of text per row, indented by `depth` below its parent, followed by `value`.

    `frame` is in tree order with a column `depth`; roots (0) are drawn in the colour of limits.
    """
    shown = frame.head(30)
    axes = new_axes(title, height=0.8 + 0.3 * max(1, len(shown)))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(max(1, len(shown)) - 0.5, -0.5)
    if shown.empty:
        axes.text(0.5, 0, "none", ha="center", va="center")
    parents: dict[int, int] = {}
    for line, (depth, name, number) in enumerate(zip(shown["depth"], shown[label], shown[value], strict=True)):
        left, parents[depth] = 0.02 + 0.05 * depth, line
        if depth:
            axes.plot([left - 0.04, left - 0.04, left - 0.01], [parents[depth - 1] + 0.3, line, line], color="#8c959f")
        suffix = "" if number is None or math.isnan(number) else f"  {quantity(float(number), unit)}"
        axes.text(left, line, f"{plain(name, 90)}{suffix}", va="center", color="black" if depth else LIMIT_COLOUR)
    if len(frame) > len(shown):
        add_to_title(axes, f"({len(shown)} of {len(frame)})")
    return axes


def live(title: str = "Connections", unit: str = "sessions") -> Callable[[DataFrame], None]:
    """Return a function that redraws one chart each time it is called; outside a notebook it does nothing.

    It takes a frame with `at` and columns that end in `_count`, each a line, and draws from two rows on.
    """
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return lambda _: None
    from IPython.display import DisplayHandle, display
    from matplotlib import pyplot

    shown: list[DisplayHandle] = []

    def draw(samples: DataFrame) -> None:
        if len(samples) < 2:
            return
        counts = (
            samples.set_index("at").filter(regex="_count$").rename(columns=lambda name: name.removesuffix("_count"))
        )
        history = counts.astype(float).melt(ignore_index=False, var_name="what").dropna().reset_index()
        figure = timeline(history, title=title, unit=unit).get_figure(root=True)
        if shown:
            shown[0].update(figure)
        else:
            shown.append(cast("DisplayHandle", display(figure, display_id=True)))
        pyplot.close(figure)  # else the notebook shows it again at the end of the cell

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
    """Draw one point per row of the frames on logarithmic axes, with the limit on `y` as a dashed line.

    A label that is in several frames is one point. The MAX_LABELLED points with the largest product of x and y have
    their label beside them.
    """
    import pandas as pd

    unit = unit or (limit.unit if limit else "")
    axes = new_axes(title or (limit.title if limit else ""), height=3.6)
    columns = [label, x, y]
    rows = [each[columns] for each in (frame, *more) if len(each)] or [frame[columns]]
    shown = pd.concat(rows, ignore_index=True).drop_duplicates(label)
    shown = shown[(shown[x] > 0) & (shown[y] > 0)]  # logarithmic axes show only positive values
    if shown.empty:
        axes.text(0.5, 0.5, f"nothing to show: no {x} yet", transform=axes.transAxes, ha="center", va="center")
    else:
        axes.set_xscale("log")
        axes.set_yscale("log")
        decades = [math.log10(float(end)) for end in (shown[x].min(), shown[x].max())]
        axes.set_xlim(10 ** math.floor(decades[0]), 10 ** (math.floor(decades[1]) + 1.4))  # room for the labels
    wrong = [limit is not None and limit.exceeded(float(number)) for number in shown[y]]
    axes.scatter(shown[x], shown[y], s=28, c=[LIMIT_COLOUR if bad else COLOURS[0] for bad in wrong], zorder=3)
    weight = (shown[x].astype(float) * shown[y].astype(float)).sort_values(ascending=False)
    for row in shown.loc[weight.index[:MAX_LABELLED]].itertuples(index=False):
        name, x_value, y_value = (getattr(row, column) for column in columns)
        axes.annotate(
            plain(name, 32), (x_value, y_value), xytext=(5, 3), textcoords="offset points", fontsize="x-small",
            annotation_clip=True,
        )  # fmt: skip
    if limit is not None:
        axes.axhline(limit.threshold, color=LIMIT_COLOUR, linestyle="--", linewidth=1)
    axes.set_xlabel(x.replace("_", " "), fontsize="small")
    axes.set_ylabel(y.removesuffix("_seconds").replace("_", " "), fontsize="small")
    axes.yaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    return axes
