"""Charts of whatever comes: gaps, NaN, infinities, hundreds of series, names that would be formulas."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest

from xai_runbook import charts
from xai_runbook.findings import Limit, Severity

NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    mpl.use("agg")
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def limit(**fields: Any) -> Limit:
    told = {"threshold": 10, "unit": "blocks", "direction": "above", "severity": Severity.MEDIUM, "hint": "look"}
    return Limit(name="lag", title="Sync lag", **told | fields)


def history(*, step: int = 60, **series: list[float | None]) -> pd.DataFrame:
    """A range frame; None is an absent row."""
    start = pd.Timestamp("2026-01-31T00:00:00Z")
    rows = [
        {"instance": name, "job": "xai", "at": start + pd.Timedelta(seconds=step * place), "value": value}
        for name, values in series.items()
        for place, value in enumerate(values)
        if value is not None
    ]
    frame = pd.DataFrame(rows, columns=["instance", "job", "at", "value"])
    return frame.astype({"instance": "category", "job": "category", "value": float})


def drawn(axes: Any) -> bytes:
    """The chart as it is shown; drawing is where bad text and bad numbers fail."""
    into = io.BytesIO()
    axes.figure.savefig(into, format="png")
    assert into.getvalue().startswith(b"\x89PNG")
    return into.getvalue()


def named(axes: Any) -> list[str]:
    """The names beside the lines' ends, from the lowest."""
    beside = [text for text in axes.texts if text.get_position()[0] > 1]
    return [text.get_text() for text in sorted(beside, key=lambda text: text.get_position()[1])]


def shaded(axes: Any) -> int:
    return sum(1 for patch in axes.patches if patch.get_alpha() == 0.12)


def test_lines_limit_and_title() -> None:
    axes = charts.timeline(history(a=[1, 2, 3], b=[2, 3, 4]), limit())
    drawn(axes)
    assert axes.get_title(loc="left") == "Sync lag"
    assert named(axes) == ["a", "b"]
    assert "alert above 10 blocks" in [text.get_text() for text in axes.texts]
    assert axes.get_xlabel() == "UTC"
    assert shaded(axes) == 0


def test_a_stretch_past_the_limit_is_shaded_once_it_has_lasted() -> None:
    frame = history(a=[1, 11, 11, 11, 1, 11, 1])
    for duration, stretches in (("0s", 2), ("2m", 1), ("3m", 0)):
        axes = charts.timeline(frame, limit(duration=duration))
        drawn(axes)
        assert shaded(axes) == stretches, duration
    assert shaded(charts.timeline(frame, limit(direction="below", threshold=5))) == 3


def test_a_gap_in_the_samples_is_a_gap_in_the_line() -> None:
    axes = charts.timeline(history(a=[1, 2, 3, *[None] * 20, 4, 5, 6]))
    drawn(axes)
    (line,) = axes.get_lines()
    assert sum(math.isnan(value) for value in line.get_ydata()) == 1


@pytest.mark.parametrize(
    "values", [[], [1], [NAN], [NAN, NAN, NAN], [INF, 1, -INF], [INF], [0, 0, 0], [1e300, -1e300], [1, NAN, INF, 2]]
)
@pytest.mark.parametrize("direction", ["above", "below"])
@pytest.mark.parametrize("unit", ["blocks", "ratio", "bytes", "seconds"])
def test_any_numbers(values: list[float], direction: str, unit: str) -> None:
    drawn(charts.timeline(history(a=values), limit(direction=direction, unit=unit, threshold=0.5)))


def test_nothing_to_draw_is_said() -> None:
    axes = charts.timeline(history(), limit())
    drawn(axes)
    assert axes.texts[0].get_text() == "no data, because no series answered for this window"
    told = charts.timeline(history(), limit(), because="node-3 is down")
    assert told.texts[0].get_text() == "no data, because node-3 is down"
    old = history()
    old.attrs["warnings"] = ["nothing before 2026-01-01 00:00 UTC: older data is not kept"]
    assert "older data is not kept" in charts.timeline(old).texts[0].get_text()


def test_many_series_are_the_worst_few() -> None:
    frame = history(**{f"node-{place}": [place, place] for place in range(100)})
    above = charts.timeline(frame, limit())
    assert named(above) == [f"node-{place}" for place in range(92, 100)]
    assert above.get_title(loc="left") == "Sync lag (8 of 100 series)"
    below = charts.timeline(frame, limit(direction="below"))
    assert named(below) == [f"node-{place}" for place in range(8)]


HOSTILE = ["$\\frac{$", "$x$ $y$", "_hidden", "\x1b[31mred", "<script>", "a\nb", "x" * 500, "\\", "%s {0} {}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_matplotlib_would_read(name: str) -> None:
    axes = charts.timeline(history(**{name: [1, 2], "other": [2, 3]}), limit())
    drawn(axes)
    labels = named(axes)
    assert len(labels) == 2  # none is left out
    assert all(len(label) < 60 and label.isprintable() for label in labels)
    drawn(charts.timeline(history(a=[1, 2]), title=name))


def test_bars() -> None:
    frame = pd.DataFrame({"table": ["a", "b", "b"], "size": [5.0, 20.0, NAN]})
    axes = charts.bars(frame, label="table", value="size", limit=limit())
    drawn(axes)
    assert len(axes.patches) == 3  # two of one name are two bars
    assert [text.get_text().strip() for text in axes.texts] == ["no value", "20 blocks", "5 blocks"]
    red = [patch.get_facecolor()[:3] == mpl.colors.to_rgb("#b3001b") for patch in axes.patches]
    assert red == [False, True, False]


@pytest.mark.parametrize("numbers", [[], [NAN], [INF], [0.0], [-1.0, 1e300]])
def test_bars_of_any_numbers(numbers: list[float]) -> None:
    frame = pd.DataFrame({"name": HOSTILE[: len(numbers)], "value": numbers})
    drawn(charts.bars(frame, label="name", value="value", limit=limit()))


def test_at_most_twenty_bars() -> None:
    frame = pd.DataFrame({"name": [str(place) for place in range(50)], "value": range(50)})
    assert len(charts.bars(frame, label="name", value="value").patches) == 20


def test_sizes_have_round_ticks() -> None:
    frame = pd.DataFrame({"table": ["a", "b"], "size": [5e9, 2e9]})
    axes = charts.bars(frame, label="table", value="size", unit="bytes")
    drawn(axes)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0 bytes", "1 GiB", "2 GiB", "3 GiB", "4 GiB", "5 GiB"]
