"""Bars, a tree of text, points, and a chart that is drawn anew while one looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from xai_runbook.charts.drawing import COLOURS, LIMIT_COLOUR, add_to_title, new_axes, nothing, plain, powers_of_two
from xai_runbook.charts.timelines import timeline
from xai_runbook.model.findings import Limit
from xai_runbook.model.units import quantity

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from pandas import DataFrame

MOST_NAMED = 5


def bars(
    frame: DataFrame, *, label: str, value: str, limit: Limit | None = None, title: str = "", unit: str = ""
) -> Axes:
    """Axes with a horizontal bar a row: column `value` by column `label`, the limit as a dashed line."""
    unit = unit or (limit.unit if limit else "")
    axes = new_axes(title or (limit.title if limit else ""), height=0.6 + 0.35 * max(1, min(len(frame), 20)))
    if frame.empty:
        nothing(axes, f"there is no {label} to show")
        return axes
    shown = frame.head(20).iloc[::-1]
    names = [plain(name) for name in shown[label]]
    numbers = [float(number) for number in shown[value]]
    wrong = [limit is not None and not math.isnan(number) and limit.exceeded(number) for number in numbers]
    colours = [LIMIT_COLOUR if bad else COLOURS[0] for bad in wrong]
    # what has no length is said in words beside an empty bar
    lengths = [number if math.isfinite(number) else 0.0 for number in numbers]
    drawn = axes.barh(range(len(names)), lengths, tick_label=names, color=colours)
    axes.bar_label(drawn, labels=[f" {quantity(number, unit)}" for number in numbers], fontsize="small")
    if limit is not None:
        axes.axvline(limit.threshold, color=LIMIT_COLOUR, linestyle="--", linewidth=1)
    axes.xaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    axes.margins(x=0.2)
    if unit == "bytes":
        axes.set_xticks(powers_of_two(*axes.get_xlim()))
    return axes


def tree(frame: DataFrame, *, label: str, value: str, title: str = "", unit: str = "seconds") -> Axes:
    """Axes with a line of text a row, indented by `depth` below the row it hangs on, and `value` behind it.

    `frame` is in the tree's order; `depth` 0 hangs on nothing and is drawn in the colour of limits.
    """
    shown = frame.head(30)
    axes = new_axes(title, height=0.8 + 0.3 * max(1, len(shown)))
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
        axes.text(left, place, f"{plain(name, 90)}{said}", va="center", color="black" if depth else LIMIT_COLOUR)
    if len(frame) > len(shown):
        add_to_title(axes, f"({len(shown)} of {len(frame)})")
    return axes


def live(title: str = "Connections", unit: str = "sessions") -> Callable[[DataFrame], None]:
    """What draws a frame of looks anew each time it is given one, in a notebook; elsewhere it does nothing.

    A column of the frame that ends in `_count` is a line; `at` is the time. A single look is no line yet.
    """
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return lambda _: None
    from IPython.display import DisplayHandle, display
    from matplotlib import pyplot

    shown: list[DisplayHandle] = []

    def draw(looks: DataFrame) -> None:
        if len(looks) < 2:
            return
        counts = looks.set_index("at").filter(regex="_count$").rename(columns=lambda name: name.removesuffix("_count"))
        history = counts.astype(float).melt(ignore_index=False, var_name="what").dropna().reset_index()
        figure = timeline(history, title=title, unit=unit).get_figure(root=True)
        if shown:
            shown[0].update(figure)
        else:
            shown.append(cast("DisplayHandle", display(figure, display_id=True)))
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
    axes = new_axes(title or (limit.title if limit else ""), height=3.6)
    columns = [label, x, y]
    rows = [each[columns] for each in (frame, *more) if len(each)] or [frame[columns]]
    shown = pd.concat(rows, ignore_index=True).drop_duplicates(label)
    shown = shown[(shown[x] > 0) & (shown[y] > 0)]  # nothing else has a place on these axes
    if shown.empty:
        axes.text(0.5, 0.5, f"nothing to show: no {x} yet", transform=axes.transAxes, ha="center", va="center")
    else:
        axes.set_xscale("log")
        axes.set_yscale("log")
        decades = [math.log10(float(end)) for end in (shown[x].min(), shown[x].max())]
        axes.set_xlim(10 ** math.floor(decades[0]), 10 ** (math.floor(decades[1]) + 1.4))  # names need room
    wrong = [limit is not None and limit.exceeded(float(number)) for number in shown[y]]
    axes.scatter(shown[x], shown[y], s=28, c=[LIMIT_COLOUR if bad else COLOURS[0] for bad in wrong], zorder=3)
    weight = (shown[x].astype(float) * shown[y].astype(float)).sort_values(ascending=False)
    for row in shown.loc[weight.index[:MOST_NAMED]].itertuples(index=False):
        name, across, up = (getattr(row, column) for column in columns)
        axes.annotate(
            plain(name, 32), (across, up), xytext=(5, 3), textcoords="offset points", fontsize="x-small",
            annotation_clip=True,
        )  # fmt: skip
    if limit is not None:
        axes.axhline(limit.threshold, color=LIMIT_COLOUR, linestyle="--", linewidth=1)
    axes.set_xlabel(x.replace("_", " "), fontsize="small")
    axes.set_ylabel(y.removesuffix("_seconds").replace("_", " "), fontsize="small")
    axes.yaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    return axes
