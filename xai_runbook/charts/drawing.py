"""What all charts share: the paper, the colours, text that is drawn as it is, axes with units."""

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
"""Okabe and Ito's, less the yellow that is lost on white and the red that is the limit's."""
PAPER, MUTED = "#ffffff", "#57606a"


def new_axes(title: str, height: float = 2.6) -> Axes:
    """Empty axes of a notebook's width, on white paper whatever the notebook's theme."""
    import matplotlib.pyplot as plt

    plt.rcParams["figure.max_open_warning"] = 0  # a notebook of many charts keeps none of them open on purpose
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    figure.set_facecolor(PAPER)
    axes.set_facecolor(PAPER)
    axes.set_title(plain(title, 100), loc="left", fontsize="medium", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.25)
    axes.tick_params(labelsize="small")
    return axes


def add_to_title(axes: Axes, words: str) -> None:
    """Says more in the title, as it is written there."""
    axes._left_title.set_text(f"{axes.get_title(loc='left')} {words}")  # type: ignore[attr-defined]


def plain(text: object, most: int = 40) -> str:
    """Text that matplotlib draws as it is: no formula between dollar signs, and never left out of a legend."""
    shown = inert(str(text), most).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def nothing(axes: Axes, because: str) -> None:
    """Says in the middle why there is nothing to see."""
    axes.set_yticks([])
    axes.set_xticks([])
    axes.text(
        0.5, 0.5, plain(f"no data, because {because}", 160), transform=axes.transAxes, ha="center", va="center",
        color=MUTED, wrap=True,
    )  # fmt: skip


def time_axis(axes: Axes) -> None:
    """Times across, in UTC."""
    from datetime import UTC

    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.set_xlabel("UTC", fontsize="small")


def value_axis(axes: Axes, unit: str) -> None:
    """Values upwards with their unit, from nothing: a share or a count means most when it is seen from there.

    Heights of blocks alone are seen from where they are.
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

        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))  # there is no half a block
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high and (unit != "ratio" or tick <= 1)]
    axes.set_yticks(powers_of_two(low, high) if unit == "bytes" else ticks)


def named_at_end(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Writes each name beside the axes at the height where its line ends, in the line's colour, none upon another."""
    low, high = axes.get_ylim()
    finite = sorted((min(max(end, low), high), name, colour) for name, end, colour in ends if math.isfinite(end))
    if not finite or high <= low:
        return
    room = 0.115 * 2.6 / max(axes.figure.get_figheight(), 1e-9)  # type: ignore[union-attr]
    places = [(end - low) / (high - low) for end, _, _ in finite]
    for upper in range(1, len(places)):
        places[upper] = max(places[upper], places[upper - 1] + room)
    places[-1] = min(places[-1], 1.0)
    for lower in range(len(places) - 2, -1, -1):  # back down, where the top had no room
        places[lower] = min(places[lower], places[lower + 1] - room)
    for place, (_, name, colour) in zip(places, finite, strict=True):
        axes.annotate(
            name, (1.008, place), xycoords="axes fraction", color=colour, va="center", fontsize="small",
            annotation_clip=False,
        )  # fmt: skip


def powers_of_two(low: float, high: float) -> list[float]:
    """At most nine ticks between two sizes, round in KiB, MiB or GiB."""
    if high <= low:
        return []
    step = 2.0 ** math.ceil(math.log2((high - low) / 8))
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
