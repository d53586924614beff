"""Shared parts of all charts: background, colours, safe text, axes with units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xai_runbook.errors import inert
from xai_runbook.model.units import quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

LIMIT_COLOUR = "#b3001b"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#222222", "#8c6d31", "#7a7a7a")
"""The palette of Okabe and Ito, without the yellow, which is hard to see on white, and the red, which marks limits."""
PAPER, MUTED = "#ffffff", "#57606a"


def new_axes(title: str, height: float = 2.6) -> Axes:
    """Return empty axes of a notebook's width, with a white background in any theme."""
    import matplotlib.pyplot as plt

    plt.rcParams["figure.max_open_warning"] = 0  # a notebook with many charts is not a leak
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    figure.set_facecolor(PAPER)
    axes.set_facecolor(PAPER)
    axes.set_title(plain(title, 100), loc="left", fontsize="medium", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.25)
    axes.tick_params(labelsize="small")
    return axes


def add_to_title(axes: Axes, text: str) -> None:
    """Append text to the title and keep its font."""
    axes._left_title.set_text(f"{axes.get_title(loc='left')} {text}")  # type: ignore[attr-defined]


def plain(text: object, max_length: int = 40) -> str:
    """Return text that matplotlib draws literally: no formula between dollar signs, never omitted from a legend."""
    shown = inert(str(text), max_length).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def draw_empty(axes: Axes, reason: str) -> None:
    """Write in the middle of the axes why there is no data."""
    axes.set_yticks([])
    axes.set_xticks([])
    axes.text(
        0.5, 0.5, plain(f"no data, because {reason}", 160), transform=axes.transAxes, ha="center", va="center",
        color=MUTED, wrap=True,
    )  # fmt: skip


def format_time_axis(axes: Axes) -> None:
    """Format the x axis as UTC times."""
    from datetime import UTC

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.set_xlabel("UTC", fontsize="small")


def format_value_axis(axes: Axes, unit: str) -> None:
    """Format the y axis in `unit`, starting at 0 because ratios and counts are easiest to read from there.

    Block heights do not start at 0.
    """
    if unit:
        axes.yaxis.set_major_formatter(lambda number, _: quantity(number, unit))
    else:
        axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    low, high = axes.get_ylim()
    if unit != "blocks" or low < 0:
        low = min(low, 0.0) if not unit else 0.0
    axes.set_ylim(low, high)
    if unit not in ("", "ratio", "seconds", "bytes"):
        from matplotlib.ticker import MaxNLocator

        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))  # counts are whole numbers
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high and (unit != "ratio" or tick <= 1)]
    axes.set_yticks(powers_of_two(low, high) if unit == "bytes" else ticks)


def label_line_ends(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write each line's name beside the axes where the line ends, in its colour, without overlaps.

    `ends` has the name, the last value and the colour of each line.
    """
    low, high = axes.get_ylim()
    finite = sorted((min(max(end, low), high), name, colour) for name, end, colour in ends if math.isfinite(end))
    if not finite or high <= low:
        return
    spacing = 0.115 * 2.6 / max(axes.figure.get_figheight(), 1e-9)  # type: ignore[union-attr]
    heights = [(end - low) / (high - low) for end, _, _ in finite]
    for upper in range(1, len(heights)):
        heights[upper] = max(heights[upper], heights[upper - 1] + spacing)
    heights[-1] = min(heights[-1], 1.0)
    for lower in range(len(heights) - 2, -1, -1):  # move labels down that were pushed beyond the top
        heights[lower] = min(heights[lower], heights[lower + 1] - spacing)
    for height, (_, name, colour) in zip(heights, finite, strict=True):
        axes.annotate(
            name, (1.008, height), xycoords="axes fraction", color=colour, va="center", fontsize="small",
            annotation_clip=False,
        )  # fmt: skip


def powers_of_two(low: float, high: float) -> list[float]:
    """Return at most nine ticks between two sizes, at round numbers of KiB, MiB or GiB."""
    if high <= low:
        return []
    step = 2.0 ** math.ceil(math.log2((high - low) / 8))
    return [step * multiple for multiple in range(math.ceil(low / step), math.floor(high / step) + 1)]
