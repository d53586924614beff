"""Charts over time: lines with their limit, and block heights with their stalls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_runbook.charts.drawing import (
    COLOURS,
    LIMIT_COLOUR,
    MUTED,
    PAPER,
    add_to_title,
    draw_empty,
    format_time_axis,
    format_value_axis,
    label_line_ends,
    new_axes,
    plain,
)
from xai_runbook.model.findings import Limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

MAX_LINES = 8
Span = tuple[Any, Any]


def timeline(
    history: DataFrame, limit: Limit | None = None, *, title: str = "", unit: str = "", empty_reason: str = ""
) -> Axes:
    """Draw one line per series over time (UTC), the limit dashed, and the times shaded in which it was exceeded.

    `history` is the frame of a range query: label columns, `at`, `value`. A gap in the samples is a gap in the line;
    times without any sample are hatched. Only the MAX_LINES series that exceed the limit most, or come closest, are
    drawn, and the title says how many there are. `empty_reason` is shown if there is no series.
    """
    unit = unit or (limit.unit if limit else "")
    axes = new_axes(title or (limit.title if limit else ""))
    series = _series(history)
    side = 1 if limit and limit.direction == "below" else -1
    series.sort(key=lambda named: (named[1].isna().all(), float((side * named[1]).min())))  # NaN cannot be sorted
    colours = _draw_lines(axes, series[:MAX_LINES])
    exceeded = []
    for name, values in series[:MAX_LINES]:
        for start, end in _exceeded_spans(values, limit):
            exceeded.append((start, end))
            axes.plot(values[start:end].index, values[start:end].to_numpy(), color=colours[name], linewidth=2.4)
    _shade(axes, exceeded)
    if len(series) > MAX_LINES:
        add_to_title(axes, f"({MAX_LINES} of {len(series)} series)")
    if limit is not None and series:
        axes.axhline(limit.threshold, color=LIMIT_COLOUR, linestyle="--", linewidth=1)
    _finish(axes, history, series[:MAX_LINES], colours, unit, empty_reason)
    if limit is not None and series:
        _label_limit(axes, limit)
    return axes


def heights(history: DataFrame, limit: Limit, *, title: str = "Block height", empty_reason: str = "") -> Axes:
    """Draw one line per node over time (UTC), and shade the times in which a height did not grow.

    Shaded are stalls of at least the limit's duration; a gap in the samples is not a stall. `history` is the frame of a
    range query of heights.
    """
    axes = new_axes(title)
    series = _series(history)
    colours = _draw_lines(axes, series[:MAX_LINES])
    stalled = [span for _, values in series for span in _stalls(values, limit.duration_seconds)]
    _shade(axes, stalled)
    if len(series) > MAX_LINES:
        add_to_title(axes, f"({MAX_LINES} of {len(series)} nodes)")
    _finish(axes, history, series[:MAX_LINES], colours, "blocks", empty_reason)
    if series:
        text = f"shaded: no new block for {limit.duration} or longer" if stalled else f"no stall of {limit.duration}"
        axes.set_title(text, loc="right", fontsize="small", color=LIMIT_COLOUR if stalled else MUTED)
    return axes


def _draw_lines(axes: Axes, series: Sequence[tuple[str, Series[Any]]]) -> dict[str, str]:
    """Draw one line per series and return the colours by name."""
    colours = {}
    # in order of names, so that a name keeps its colour from chart to chart
    for position, (name, values) in enumerate(sorted(series, key=lambda named: named[0])):
        colours[name] = COLOURS[position % len(COLOURS)]
        # a sample with a gap on both sides is drawn as a dot
        alone = values[values.notna() & values.shift().isna() & values.shift(-1).isna()]
        axes.plot(values.index, values.to_numpy(), linewidth=1.3, color=colours[name], label=name)
        if len(alone):
            axes.plot(alone.index, alone.to_numpy(), ".", color=colours[name], markersize=4)
    return colours


def _shade(axes: Axes, spans: list[Span]) -> None:
    """Shade the spans; overlapping ones are merged so that they are not darker."""
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
    empty_reason: str,
) -> None:
    """Format the axes, hatch gaps and label the lines, or write why there is no data."""
    start, end = history.attrs.get("start"), history.attrs.get("end")
    if start is not None and end is not None and start < end:
        axes.set_xlim(start, end)
    else:
        start = None
    if series:
        format_value_axis(axes, unit)
        for gap in _gaps(history):
            axes.axvspan(*gap, facecolor="none", edgecolor="#c8ccd1", hatch="///", linewidth=0)
        ends = []
        for name, values in series:
            known = values.dropna()
            ended = len(known) and len(history) and _ends_early(known, history)
            last = float(known.iloc[-1]) if len(known) else float("nan")
            ends.append((f"{name} (until {known.index[-1]:%H:%M})" if ended else name, last, colours[name]))
        if len(series) > 1 or ends[0][0] != "value":
            label_line_ends(axes, ends)
    else:
        warnings = "; ".join(str(text) for text in history.attrs.get("warnings", []))
        draw_empty(axes, empty_reason or warnings or "no series has samples in this window")
    if series or start is not None:
        format_time_axis(axes)


def _ends_early(known: Series[Any], history: DataFrame) -> bool:
    last = history.attrs.get("end") or history["at"].max()
    return bool((last - known.index[-1]).total_seconds() > max(10 * _step(history), 60))


def _label_limit(axes: Axes, limit: Limit) -> None:
    """Write the limit on its line, on the side that exceeds it."""
    above, (low, high) = limit.direction == "above", axes.get_ylim()
    if above and limit.threshold > high - 0.12 * (high - low):
        axes.set_ylim(low, limit.threshold + 0.14 * (high - low))  # room for the text
    axes.annotate(
        f"alert {limit.describe()}", (0.004, limit.threshold), xycoords=("axes fraction", "data"),
        xytext=(0, 2 if above else -2), textcoords="offset points", va="bottom" if above else "top",
        fontsize="small", color=LIMIT_COLOUR, annotation_clip=False,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )  # fmt: skip


def _series(history: DataFrame) -> list[tuple[str, Series[Any]]]:
    """Return the name and the time-indexed values of each series, with a NaN in each gap."""
    labels = [column for column in history.columns if column not in ("at", "value")]
    # labels that all series share are left out of the names
    distinct = [column for column in labels if history[column].nunique() > 1]
    if not labels:
        groups: Any = [("value", history)] if len(history) else []
    else:
        groups = history.groupby(distinct or labels[:1], observed=True, sort=True)
    named = []
    for key, rows in groups:
        name = " ".join(plain(part) for part in (key if isinstance(key, tuple) else (key,)))
        named.append((name, _with_gaps(rows.set_index("at")["value"].sort_index(), history.attrs.get("step_seconds"))))
    return named


def _with_gaps(values: Series[Any], step_seconds: float | None) -> Series[Any]:
    """Return the series with a NaN in every gap, so that no line is drawn across it.

    A gap is a missing sample if the step is known, else more than three median steps.
    """
    if len(values) < (2 if step_seconds else 3):
        return values
    import pandas as pd

    steps = values.index.to_series().diff()
    gaps = steps[steps > (pd.Timedelta(seconds=1.5 * step_seconds) if step_seconds else 3 * steps.median())]
    if gaps.empty:
        return values
    middles = pd.Series(float("nan"), index=pd.DatetimeIndex(gaps.index - gaps / 2))
    with_gaps: Series[Any] = pd.concat([values, middles]).sort_index()
    return with_gaps


def _step(history: DataFrame) -> float:
    step_seconds = history.attrs.get("step_seconds")
    if step_seconds:
        return float(step_seconds)
    steps = history["at"].drop_duplicates().sort_values().diff().dt.total_seconds()
    return float(steps.median()) if len(steps) > 1 else 0.0


def _gaps(history: DataFrame) -> list[Span]:
    """Return the times in which no series has a sample; too short ones are ignored."""
    import pandas as pd

    at = history["at"].drop_duplicates().sort_values()
    edges = [at.iloc[0] if history.attrs.get("start") is None else pd.Timestamp(history.attrs["start"])]
    edges += [*at, at.iloc[-1] if history.attrs.get("end") is None else pd.Timestamp(history.attrs["end"])]
    instants = pd.Series(edges)
    steps = instants.diff()
    least = max(pd.Timedelta(seconds=3 * _step(history)), (instants.iloc[-1] - instants.iloc[0]) / 150)
    return [(instants[index - 1], instants[index]) for index in steps[steps > least].index]


def _exceeded_spans(values: Series[Any], limit: Limit | None) -> list[Span]:
    """Return the times in which the limit was exceeded for its duration or longer."""
    if limit is None or values.empty:
        return []
    wrong = values > limit.threshold if limit.direction == "above" else values < limit.threshold
    runs = (wrong != wrong.shift()).cumsum()[wrong]
    spans = [(rows.index[0], rows.index[-1]) for _, rows in runs.groupby(runs)]
    return [(start, end) for start, end in spans if (end - start).total_seconds() >= limit.duration_seconds]


def _stalls(values: Series[Any], seconds: float) -> list[Span]:
    """Return the times in which the value did not change for `seconds` or longer."""
    runs = ((values != values.shift()) | values.isna()).cumsum()[values.notna()]
    spans = [(rows.index[0], rows.index[-1]) for _, rows in runs.groupby(runs) if len(rows) > 1]
    return [(start, end) for start, end in spans if (end - start).total_seconds() >= max(seconds, 1e-9)]
