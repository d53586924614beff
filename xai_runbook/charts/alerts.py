"""Alerts over time: one row per alert and target, with its states and silences."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from xai_runbook.charts.drawing import (
    COLOURS,
    LIMIT_COLOUR,
    MUTED,
    PAPER,
    add_to_title,
    format_time_axis,
    new_axes,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MAX_ROWS = 25
_STATES = {"pending": ("#e69f00", "///"), "firing": (LIMIT_COLOUR, ""), "unknown": ("#8c959f", "...")}
Span = tuple[Any, Any]


def alert_timeline(states: DataFrame, silences: DataFrame | None = None, *, title: str = "Alerts") -> Axes:
    """Draw one row per alert and target over time (UTC): pending hatched, firing solid, unknown dotted.

    `states` is the frame of `monitoring.evaluate` or `monitoring.alert_states`: label columns, `at`, `state`. Rows that
    were always inactive are left out; those that fired longest come first. `silences` (starts_at, ends_at, hides: list
    of alert names) are drawn as lines under the alerts that they can hide.
    """
    import pandas as pd

    labels = [name for name in ("alert", "target") if name in states] or [
        name for name in states.columns if name not in ("at", "value", "state", "active_since", "idle")
    ]
    rows = []
    for key, group in states.groupby(labels, observed=True, sort=True) if labels else [(("all",), states)]:
        spans = _state_spans(group)
        seconds = {state: sum((end - start).total_seconds() for start, end in spans[state]) for state in _STATES}
        if any(spans.values()):
            rows.append((key, spans, (-seconds["firing"], -seconds["pending"], -seconds["unknown"])))
    rows.sort(key=lambda row: row[2])
    axes = new_axes(title, height=1.1 + 0.28 * max(2, min(len(rows), MAX_ROWS)))
    for position, (key, spans, _) in enumerate(rows[:MAX_ROWS]):
        for state, (colour, hatch) in _STATES.items():
            bars = [(start, end - start) for start, end in spans[state]]
            if bars:
                axes.broken_barh(
                    bars,
                    (position - 0.32, 0.64),
                    facecolor=colour if not hatch else "#ffffff",
                    edgecolor=colour,
                    hatch=hatch,
                )
        for start, end in _silence_spans(silences, key[0] if isinstance(key, tuple) else key):
            axes.plot([start, end], [position + 0.41] * 2, color=COLOURS[0], linewidth=3, solid_capstyle="butt")
    if len(rows) > MAX_ROWS:
        add_to_title(axes, f"({MAX_ROWS} of {len(rows)})")
    names = [" ".join(plain(part) for part in (key if isinstance(key, tuple) else (key,))) for key, *_ in rows]
    axes.set_yticks(range(len(names[:MAX_ROWS])), names[:MAX_ROWS])
    axes.set_ylim(max(2, min(len(rows), MAX_ROWS)) - 0.4, -0.6)
    start, end = states.attrs.get("start"), states.attrs.get("end")
    if not rows:
        axes.set_yticks([])
        reason = "no alert was pending or firing" if len(states) else "no data, because no alert was evaluated"
        axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    if start is None and len(states):
        start, end = states["at"].min(), states["at"].max()
    if start is not None and end is not None and start < end:
        axes.set_xlim(pd.Timestamp(start), pd.Timestamp(end))  # type: ignore[arg-type]
    format_time_axis(axes)
    _legend(axes, silences is not None and len(silences) > 0)
    return axes


def _legend(axes: Axes, silenced: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=PAPER if hatch else colour, edgecolor=colour, hatch=hatch, label=state)
        for state, (colour, hatch) in _STATES.items()
    ]
    if silenced:
        handles.append(Line2D([], [], color=COLOURS[0], linewidth=3, label="silenced, at least in part"))
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), fontsize="small", frameon=False
    )


def _state_spans(group: DataFrame) -> dict[str, list[Span]]:
    """Return the start and end of each consecutive run of a state; an evaluation lasts until the next one."""
    ordered = group.sort_values("at")
    at, state = ordered["at"].reset_index(drop=True), ordered["state"].astype("str").reset_index(drop=True)
    step = at.diff().median() if len(at) > 1 else timedelta(seconds=15)
    spans: dict[str, list[Span]] = {name: [] for name in _STATES}
    runs = (state != state.shift()).cumsum()
    for _, rows in state.groupby(runs).groups.items():
        name = state[rows[0]]
        if name in spans:
            spans[name].append((at[rows[0]], at[rows[-1]] + step))
    return spans


def _silence_spans(silences: DataFrame | None, alert: object) -> list[Span]:
    if silences is None:
        return []
    hidden = [alert in hides for hides in silences["hides"]]
    return list(zip(silences["starts_at"][hidden], silences["ends_at"][hidden], strict=True))
