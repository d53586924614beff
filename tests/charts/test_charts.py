"""Charts of any data: gaps, NaN, infinity, hundreds of series, names that look like formulas."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest

from xai_runbook import charts
from xai_runbook.model.findings import Limit, Severity

NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    mpl.use("agg")
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def limit(**fields: Any) -> Limit:
    defaults = {"threshold": 10, "unit": "blocks", "direction": "above", "severity": Severity.MEDIUM, "hint": "look"}
    return Limit(name="lag", title="Sync lag", **defaults | fields)


def history(*, step: int = 60, **series: list[float | None]) -> pd.DataFrame:
    """Return the frame of a range query; None is a missing row."""
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
    """Return the chart as PNG; bad text and bad numbers fail only when it is drawn."""
    into = io.BytesIO()
    axes.figure.savefig(into, format="png")
    assert into.getvalue().startswith(b"\x89PNG")
    return into.getvalue()


def named(axes: Any) -> list[str]:
    """Return the names beside the ends of the lines, from the lowest."""
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


def test_times_beyond_the_limit_are_shaded_after_its_duration() -> None:
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
@pytest.mark.parametrize(
    ("direction", "unit"), [("above", "blocks"), ("below", "ratio"), ("above", "bytes"), ("below", "seconds")]
)
def test_a_timeline_of_any_numbers(values: list[float], direction: str, unit: str) -> None:
    drawn(charts.timeline(history(a=values), limit(direction=direction, unit=unit, threshold=0.5)))


def test_an_empty_chart_says_why() -> None:
    axes = charts.timeline(history(), limit())
    drawn(axes)
    assert axes.texts[0].get_text() == "no data, because no series has samples in this window"
    empty = charts.timeline(history(), limit(), empty_reason="node-3 is down")
    assert empty.texts[0].get_text() == "no data, because node-3 is down"
    old = history()
    old.attrs["warnings"] = ["nothing before 2026-01-01 00:00 UTC: older data is not kept"]
    assert "older data is not kept" in charts.timeline(old).texts[0].get_text()


def test_of_many_series_the_worst_are_drawn() -> None:
    frame = history(**{f"node-{place}": [place, place] for place in range(100)})
    above = charts.timeline(frame, limit())
    assert named(above) == [f"node-{place}" for place in range(92, 100)]
    assert above.get_title(loc="left") == "Sync lag (8 of 100 series)"
    below = charts.timeline(frame, limit(direction="below"))
    assert named(below) == [f"node-{place}" for place in range(8)]


def test_a_series_without_a_value_does_not_hide_the_worst_one() -> None:
    none = float("nan")
    frame = history(**{f"node-{place}": [none, none] if place % 2 else [place, place] for place in range(40)})
    assert named(charts.timeline(frame, limit())) == [f"node-{place}" for place in range(24, 40, 2)]
    assert named(charts.timeline(frame, limit(direction="below"))) == [f"node-{place}" for place in range(0, 16, 2)]


HOSTILE = ["$\\frac{$", "$x$ $y$", "_hidden", "\x1b[31mred", "<script>", "a\nb", "x" * 500, "\\", "%s {0} {}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_special_to_matplotlib(name: str) -> None:
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


def test_empty_bars_say_so() -> None:
    axes = charts.bars(pd.DataFrame({"slot": [], "kept": []}), label="slot", value="kept", limit=limit())
    assert [text.get_text() for text in axes.texts] == ["no data, because there is no slot to show"]


def test_with_a_known_step_every_gap_is_shown() -> None:
    frame = history(a=[1, None, 3, *[None] * 200, 4, 5], b=[1, 2, 3, *[None] * 200, None, 5])
    start = pd.Timestamp("2026-01-31T00:00:00Z")
    frame.attrs.update(step_seconds=60.0, start=start, end=start + pd.Timedelta(hours=4))
    axes = charts.timeline(frame, limit())
    drawn(axes)
    lines = {line.get_label(): line for line in axes.get_lines() if line.get_label() in ("a", "b")}
    assert [sum(math.isnan(value) for value in lines[name].get_ydata()) for name in "ab"] == [2, 1]
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert len(hatched) == 2  # between the samples, and from the last one to the window's end
    first, last = axes.get_xlim()
    assert (last - first) * 24 == pytest.approx(4)


def test_a_series_that_ended_early_says_when() -> None:
    frame = history(a=[1, 2] * 100, b=[1, 2, 1])
    frame.attrs.update(step_seconds=60.0)
    assert named(charts.timeline(frame)) == ["b (until 00:02)", "a"]


def test_names_beside_the_lines_do_not_overlap() -> None:
    axes = charts.timeline(history(**{f"n{place}": [5.0, 5.0 + place / 1000] for place in range(8)}), limit())
    drawn(axes)
    heights = sorted(text.get_position()[1] for text in axes.texts if text.get_position()[0] > 1)
    assert len(heights) == 8 and heights[-1] <= 1
    assert min(upper - lower for lower, upper in itertools.pairwise(heights)) > 0.1


def test_a_name_keeps_its_colour() -> None:
    def colours(frame: pd.DataFrame) -> dict[str, str]:
        lines = charts.timeline(frame, limit()).get_lines()
        return {str(line.get_label()): str(line.get_color()) for line in lines if line.get_label() in ("a", "b")}

    assert colours(history(a=[1, 2], b=[3, 4])) == colours(history(a=[30, 40], b=[1, 2]))


def test_stalled_heights_are_shaded_and_a_gap_is_not_a_stall() -> None:
    moving = list(range(100, 140))
    still = [*range(100, 110), *[110] * 20, *range(111, 121)]
    stalled = charts.heights(history(a=moving, b=still), limit(duration="15m"))
    drawn(stalled)
    assert shaded(stalled) == 1 and "no new block for" in stalled.get_title(loc="right")
    assert shaded(charts.heights(history(a=moving, b=still), limit(duration="25m"))) == 0
    silent = [*range(100, 110), *[None] * 20, *range(110, 120)]
    assert shaded(charts.heights(history(a=moving, b=silent), limit(duration="15m"))) == 0
    both = charts.heights(history(a=still, b=still), limit(duration="15m"))
    assert shaded(both) == 1  # once, where they overlap
    drawn(charts.heights(history(), limit()))


def states(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Return states a minute apart: i inactive, p pending, f firing, u unknown."""
    start, words = (
        pd.Timestamp("2026-01-31T00:00:00Z"),
        {"i": "inactive", "p": "pending", "f": "firing", "u": "unknown"},
    )
    samples = [
        {
            "alert": alert,
            "target": target,
            "at": start + pd.Timedelta(minutes=place),
            "value": 0.0,
            "state": words[state],
        }
        for alert, target, story in rows
        for place, state in enumerate(story)
    ]
    return pd.DataFrame(samples, columns=["alert", "target", "at", "value", "state"])


def test_alerts_over_time_are_one_row_each() -> None:
    frame = states(("SyncLag", "node-1", "iippii"), ("PeerCountLow", "node-2", "ppffui"), ("HighCPU", "x", "iiiiii"))
    silences = pd.DataFrame(
        {
            "hides": [["PeerCountLow"]],
            "starts_at": [pd.Timestamp("2026-01-31T00:01:00Z")],
            "ends_at": [pd.Timestamp("2026-02-01T00:00:00Z")],
        }
    )
    axes = charts.alert_timeline(frame, silences)
    drawn(axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["PeerCountLow node-2", "SyncLag node-1"]
    assert len(axes.collections) == 4  # pending, firing and unknown of one, pending of the other
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["pending", "firing", "unknown", "silenced, at least in part"]
    assert len(axes.get_lines()) == 1


def test_alerts_of_a_quiet_and_an_empty_window() -> None:
    quiet = charts.alert_timeline(states(("HighCPU", "x", "iiii")))
    drawn(quiet)
    assert quiet.texts[0].get_text() == "no alert was pending or firing"
    none = charts.alert_timeline(states())
    drawn(none)
    assert none.texts[0].get_text().startswith("no data, because")


def test_at_most_25_alerts() -> None:
    axes = charts.alert_timeline(states(*((f"A{place:02}", "t", "f") for place in range(40))))
    drawn(axes)
    assert len(axes.get_yticks()) == 25 and axes.get_title(loc="left") == "Alerts (25 of 40)"
