"""Alerts over time: a row each, with what Prometheus' rules held and what the Alertmanager kept quiet about."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from xai_runbook.charts.drawing import COLOURS, LIMIT_COLOUR, MUTED, PAPER, add_to_title, new_axes, plain, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MOST_ROWS = 25
_STATES = {"pending": ("#e69f00", "///"), "firing": (LIMIT_COLOUR, ""), "unknown": ("#8c959f", "...")}
Span = tuple[Any, Any]


def alert_timeline(states: DataFrame, silences: DataFrame | None = None, *, title: str = "Alerts") -> Axes:
    """Axes with a row an alert and target over time (UTC): pending hatched, firing solid, without a value dotted.

    `states` is the frame of `monitoring.evaluate` or `monitoring.alert_states`: label columns, `at`, `state`. Rows in
    which nothing happened are left out, those that fired come first. `silences` (starts_at, ends_at, hides: the names
    of alerts) are lines under the bars of the alerts that they can hide.
    """
    import pandas as pd

    labels = [name for name in ("alert", "target") if name in states] or [
        name for name in states.columns if name not in ("at", "value", "state", "active_since", "idle")
    ]
    rows = []
    for key, group in states.groupby(labels, observed=True, sort=True) if labels else [(("all",), states)]:
        spans = _stretches(group)
        seconds = {state: sum((end - start).total_seconds() for start, end in spans[state]) for state in _STATES}
        if any(spans.values()):
            rows.append((key, spans, (-seconds["firing"], -seconds["pending"], -seconds["unknown"])))
    rows.sort(key=lambda row: row[2])
    axes = new_axes(title, height=1.1 + 0.28 * max(2, min(len(rows), MOST_ROWS)))
    for place, (key, spans, _) in enumerate(rows[:MOST_ROWS]):
        for state, (colour, hatch) in _STATES.items():
            bars = [(start, end - start) for start, end in spans[state]]
            if bars:
                axes.broken_barh(
                    bars,
                    (place - 0.32, 0.64),
                    facecolor=colour if not hatch else "#ffffff",
                    edgecolor=colour,
                    hatch=hatch,
                )
        for start, end in _silenced(silences, key[0] if isinstance(key, tuple) else key):
            axes.plot([start, end], [place + 0.41] * 2, color=COLOURS[0], linewidth=3, solid_capstyle="butt")
    if len(rows) > MOST_ROWS:
        add_to_title(axes, f"({MOST_ROWS} of {len(rows)})")
    names = [" ".join(plain(part) for part in (key if isinstance(key, tuple) else (key,))) for key, *_ in rows]
    axes.set_yticks(range(len(names[:MOST_ROWS])), names[:MOST_ROWS])
    axes.set_ylim(max(2, min(len(rows), MOST_ROWS)) - 0.4, -0.6)
    start, end = states.attrs.get("start"), states.attrs.get("end")
    if not rows:
        axes.set_yticks([])
        quiet = "nothing was pending or firing in this window" if len(states) else "no data, because nothing was judged"
        axes.text(0.5, 0.5, quiet, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    if start is None and len(states):
        start, end = states["at"].min(), states["at"].max()
    if start is not None and end is not None and start < end:
        axes.set_xlim(pd.Timestamp(start), pd.Timestamp(end))  # type: ignore[arg-type]
    time_axis(axes)
    _legend(axes, silences is not None and len(silences) > 0)
    return axes


def _legend(axes: Axes, silenced: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [
        Patch(facecolor=PAPER if hatch else colour, edgecolor=colour, hatch=hatch, label=state)
        for state, (colour, hatch) in _STATES.items()
    ]
    if silenced:
        keys.append(Line2D([], [], color=COLOURS[0], linewidth=3, label="silenced, in part at least"))
    axes.legend(
        handles=keys, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(keys), fontsize="small", frameon=False
    )


def _stretches(group: DataFrame) -> dict[str, list[Span]]:
    """Start and end of every stretch of each state; each instant stands for the time until the next."""
    ordered = group.sort_values("at")
    at, state = ordered["at"].reset_index(drop=True), ordered["state"].astype("str").reset_index(drop=True)
    step = at.diff().median() if len(at) > 1 else timedelta(seconds=15)
    spans: dict[str, list[Span]] = {name: [] for name in _STATES}
    runs = (state != state.shift()).cumsum()
    for _, place in state.groupby(runs).groups.items():
        name = state[place[0]]
        if name in spans:
            spans[name].append((at[place[0]], at[place[-1]] + step))
    return spans


def _silenced(silences: DataFrame | None, alert: object) -> list[Span]:
    if silences is None:
        return []
    hidden = [alert in hides for hides in silences["hides"]]
    return list(zip(silences["starts_at"][hidden], silences["ends_at"][hidden], strict=True))
