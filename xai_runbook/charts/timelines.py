"""Charts over time: lines beside their limit, heights and their stalls, alerts as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_runbook.charts.drawing import (
    COLOURS,
    LIMIT_COLOUR,
    MUTED,
    PAPER,
    add_to_title,
    named_at_end,
    new_axes,
    nothing,
    plain,
    time_axis,
    value_axis,
)
from xai_runbook.model.findings import Limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

MOST_LINES = 8
Span = tuple[Any, Any]


def timeline(
    history: DataFrame, limit: Limit | None = None, *, title: str = "", unit: str = "", because: str = ""
) -> Axes:
    """Axes with a line a series over time (UTC), the limit dashed, and the times shaded in which it was passed.

    `history` is a range query's frame: label columns, `at`, `value`. A gap in the samples is a gap in the line; times
    without any sample are hatched. Only the MOST_LINES series nearest to the limit's wrong side are drawn, and the
    title says how many there are. `because` says why there is nothing, where there is nothing.
    """
    unit = unit or (limit.unit if limit else "")
    axes = new_axes(title or (limit.title if limit else ""))
    series = _series(history)
    side = 1 if limit and limit.direction == "below" else -1
    series.sort(key=lambda named: (named[1].isna().all(), float((side * named[1]).min())))  # NaN would end the order
    drawn = _lines(axes, series[:MOST_LINES])
    passed = []
    for name, values in series[:MOST_LINES]:
        for start, end in _passed(values, limit):
            passed.append((start, end))
            axes.plot(values[start:end].index, values[start:end].to_numpy(), color=drawn[name], linewidth=2.4)
    _shade(axes, passed)
    if len(series) > MOST_LINES:
        add_to_title(axes, f"({MOST_LINES} of {len(series)} series)")
    if limit is not None and series:
        axes.axhline(limit.threshold, color=LIMIT_COLOUR, linestyle="--", linewidth=1)
    _finish(axes, history, series[:MOST_LINES], drawn, unit, because)
    if limit is not None and series:
        _limit_named(axes, limit)
    return axes


def heights(history: DataFrame, limit: Limit, *, title: str = "Block height", because: str = "") -> Axes:
    """Axes with a line a node over time (UTC), and the stretches shaded in which a height stood still.

    Shaded is what lasted for `limit`'s duration (that of the row "block height") or longer, up to the next block; a
    gap in the samples is no stall. `history` is a range query's frame of heights.
    """
    axes = new_axes(title)
    series = _series(history)
    drawn = _lines(axes, series[:MOST_LINES])
    stalled = [span for _, values in series for span in _stalls(values, limit.duration_seconds)]
    _shade(axes, stalled)
    if len(series) > MOST_LINES:
        add_to_title(axes, f"({MOST_LINES} of {len(series)} nodes)")
    _finish(axes, history, series[:MOST_LINES], drawn, "blocks", because)
    if series:
        words = f"shaded: stood still for {limit.duration} or longer" if stalled else f"no stall of {limit.duration}"
        axes.set_title(words, loc="right", fontsize="small", color=LIMIT_COLOUR if stalled else MUTED)
    return axes


def _lines(axes: Axes, series: Sequence[tuple[str, Series[Any]]]) -> dict[str, str]:
    """Draws a line each; the colour of each by its name."""
    colours = {}
    for place, (name, values) in enumerate(sorted(series, key=lambda named: named[0])):  # a name keeps its colour
        colours[name] = COLOURS[place % len(COLOURS)]
        # a sample with a gap on both sides has no line: a dot
        alone = values[values.notna() & values.shift().isna() & values.shift(-1).isna()]
        axes.plot(values.index, values.to_numpy(), linewidth=1.3, color=colours[name], label=name)
        if len(alone):
            axes.plot(alone.index, alone.to_numpy(), ".", color=colours[name], markersize=4)
    return colours


def _shade(axes: Axes, spans: list[Span]) -> None:
    """Shades what the spans cover, once where they overlap."""
    covered: list[Span] = []
    for start, end in sorted(spans):
        if covered and start <= covered[-1][1]:
            covered[-1] = (covered[-1][0], max(end, covered[-1][1]))
        else:
            covered.append((start, end))
    for start, end in covered:
        axes.axvspan(start, end, color=LIMIT_COLOUR, alpha=0.12, linewidth=0)


def _finish(
    axes: Axes,
    history: DataFrame,
    series: Sequence[tuple[str, Series[Any]]],
    colours: dict[str, str],
    unit: str,
    because: str,
) -> None:
    """Axes, gaps and names, or why there is nothing."""
    start, end = history.attrs.get("start"), history.attrs.get("end")
    if start is not None and end is not None and start < end:
        axes.set_xlim(start, end)
    else:
        start = None
    if series:
        value_axis(axes, unit)
        for gap in _gaps(history):
            axes.axvspan(*gap, facecolor="none", edgecolor="#c8ccd1", hatch="///", linewidth=0)
        ends = []
        for name, values in series:
            known = values.dropna()
            gone = len(known) and len(history) and _ends_early(known, history)
            last = float(known.iloc[-1]) if len(known) else float("nan")
            ends.append((f"{name} (until {known.index[-1]:%H:%M})" if gone else name, last, colours[name]))
        if len(series) > 1 or ends[0][0] != "value":
            named_at_end(axes, ends)
    else:
        told = "; ".join(str(text) for text in history.attrs.get("warnings", []))
        nothing(axes, because or told or "no series answered for this window")
    if series or start is not None:
        time_axis(axes)


def _ends_early(known: Series[Any], history: DataFrame) -> bool:
    last = history.attrs.get("end") or history["at"].max()
    return bool((last - known.index[-1]).total_seconds() > max(10 * _step(history), 60))


def _limit_named(axes: Axes, limit: Limit) -> None:
    """The limit in words on its line, at the side that is wrong."""
    above, (low, high) = limit.direction == "above", axes.get_ylim()
    if above and limit.threshold > high - 0.12 * (high - low):
        axes.set_ylim(low, limit.threshold + 0.14 * (high - low))  # room for the words
    axes.annotate(
        f"alert {limit.describe()}", (0.004, limit.threshold), xycoords=("axes fraction", "data"),
        xytext=(0, 2 if above else -2), textcoords="offset points", va="bottom" if above else "top",
        fontsize="small", color=LIMIT_COLOUR, annotation_clip=False,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )  # fmt: skip


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
        name = " ".join(plain(part) for part in (key if isinstance(key, tuple) else (key,)))
        named.append((name, _broken(rows.set_index("at")["value"].sort_index(), history.attrs.get("step_seconds"))))
    return named


def _broken(values: Series[Any], step_seconds: float | None) -> Series[Any]:
    """The series with a NaN put into every gap, so that no line bridges it.

    A gap is an instant of the grid without a row; where the grid is not known, more than three usual steps.
    """
    if len(values) < (2 if step_seconds else 3):
        return values
    import pandas as pd

    steps = values.index.to_series().diff()
    gaps = steps[steps > (pd.Timedelta(seconds=1.5 * step_seconds) if step_seconds else 3 * steps.median())]
    if gaps.empty:
        return values
    middles = pd.Series(float("nan"), index=pd.DatetimeIndex(gaps.index - gaps / 2))
    whole: Series[Any] = pd.concat([values, middles]).sort_index()
    return whole


def _step(history: DataFrame) -> float:
    told = history.attrs.get("step_seconds")
    if told:
        return float(told)
    steps = history["at"].drop_duplicates().sort_values().diff().dt.total_seconds()
    return float(steps.median()) if len(steps) > 1 else 0.0


def _gaps(history: DataFrame) -> list[Span]:
    """The stretches of the window in which no series has a sample; short ones would not be seen."""
    import pandas as pd

    at = history["at"].drop_duplicates().sort_values()
    edges = [at.iloc[0] if history.attrs.get("start") is None else pd.Timestamp(history.attrs["start"])]
    edges += [*at, at.iloc[-1] if history.attrs.get("end") is None else pd.Timestamp(history.attrs["end"])]
    instants = pd.Series(edges)
    steps = instants.diff()
    least = max(pd.Timedelta(seconds=3 * _step(history)), (instants.iloc[-1] - instants.iloc[0]) / 150)
    return [(instants[place - 1], instants[place]) for place in steps[steps > least].index]


def _passed(values: Series[Any], limit: Limit | None) -> list[Span]:
    """Start and end of every stretch that stayed on the wrong side for the limit's duration or longer."""
    if limit is None or values.empty:
        return []
    wrong = values > limit.threshold if limit.direction == "above" else values < limit.threshold
    stretches = (wrong != wrong.shift()).cumsum()[wrong]
    spans = [(rows.index[0], rows.index[-1]) for _, rows in stretches.groupby(stretches)]
    return [(start, end) for start, end in spans if (end - start).total_seconds() >= limit.duration_seconds]


def _stalls(values: Series[Any], seconds: float) -> list[Span]:
    """Start and end of every stretch in which the value did not change for so long."""
    runs = ((values != values.shift()) | values.isna()).cumsum()[values.notna()]
    spans = [(rows.index[0], rows.index[-1]) for _, rows in runs.groupby(runs) if len(rows) > 1]
    return [(start, end) for start, end in spans if (end - start).total_seconds() >= max(seconds, 1e-9)]
