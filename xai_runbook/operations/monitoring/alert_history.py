"""Alerts within a past window: the limits evaluated as Prometheus would have evaluated them.

Works where Prometheus' own ALERTS series does not: after it has expired, and for rules that were not loaded then.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xai_runbook.errors import NoData, inert
from xai_runbook.model.findings import Finding, Severity, Status
from xai_runbook.model.window import Window, duration_seconds, duration_text
from xai_runbook.operations.monitoring.alert_evaluation import FIRING, PENDING, UNKNOWN, evaluate, target_names
from xai_runbook.operations.monitoring.metrics import signal
from xai_runbook.settings.limits import Signals

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.settings.limits import Limits

MAX_POINTS = 6000
"""Evaluations per target: a day at 15 s. A longer window is evaluated less often, which the finding reports."""
_MAX_LISTED = 5


def alert_states(prometheus: Prometheus, limits: Limits, window: Window | str) -> DataFrame:
    """Return the state of every limit that has a Prometheus rule, for each target at each evaluation in the window.

    Columns: limit, alert, severity, target, at (UTC), value (in the limit's unit), state (inactive, pending, firing,
    unknown), active_since (UTC). `attrs`: start, end, step_seconds (between evaluations), silent (the limits without
    any data).
    Errors: NoData if no limit has data. Source: runbook, Alert Thresholds; erratum E19.
    """
    window = Window.parse(window) if isinstance(window, str) else window
    least = duration_seconds(prometheus.access.step)
    step = least * max(1, math.ceil(window.seconds / least / MAX_POINTS))
    parts, silent, reason = [], [], ""
    for name in Signals.model_fields:
        limit = limits.by_name[name]
        before = timedelta(seconds=limit.duration_seconds + step)  # an alert active at the start began earlier
        extended = Window(window.start - before, window.end)
        try:
            frame = signal(prometheus, limit, extended, duration_text(step))
        except NoData as error:
            silent.append(name)
            reason = error.what
            continue
        judged = evaluate(frame, limit, step_seconds=step, at=frame.attrs["end"])
        judged = judged[judged["at"] >= window.start]
        parts.append(
            pd.DataFrame(
                {
                    "limit": name,
                    "alert": limit.alert,
                    "severity": limit.severity.value,
                    "target": target_names(judged),
                    **{column: judged[column] for column in ("at", "value", "state", "active_since")},
                }
            )
        )
    if not parts:
        message = f"no data for any limit in {window}: {reason}"
        raise NoData(message, on=prometheus.url, hint="choose a window within Prometheus' retention")
    states = pd.concat(parts, ignore_index=True)
    states.attrs.update(start=window.start, end=window.end, step_seconds=step, silent=silent)
    return states


def alert_periods(states: DataFrame) -> DataFrame:
    """Return when each alert was pending and firing, the newest first.

    Columns: alert, limit, severity, target, pending_at, fired_at (UTC; NaT if it never fired), ended_at (UTC; NaT if it
    was still active at the end of the window), last_value (in the limit's unit).
    """
    active = states["state"].isin([PENDING, FIRING]).to_numpy()
    key = states["limit"].astype(str) + "\0" + states["target"].astype(str)
    begins = active & ~(np.concatenate(([False], active[:-1])) & (key == key.shift()).to_numpy())
    numbered = states.assign(period=np.cumsum(begins))[active]
    rows = []
    for _, period in numbered.groupby("period", sort=False):
        first, last = period.iloc[0], period.iloc[-1]
        firing = period[period["state"] == FIRING]
        after = int(period.index[-1]) + 1
        continues = after >= len(states) or key[after] != key[period.index[-1]]
        rows.append(
            {
                **{column: first[column] for column in ("alert", "limit", "severity", "target")},
                "pending_at": first["active_since"],
                "fired_at": firing["at"].iloc[0] if len(firing) else pd.NaT,
                "ended_at": pd.NaT if continues else states["at"][after],
                "last_value": last["value"],
            }
        )
    columns = ["alert", "limit", "severity", "target", "pending_at", "fired_at", "ended_at", "last_value"]
    periods = pd.DataFrame(rows, columns=columns)
    for column in ("pending_at", "fired_at", "ended_at"):
        periods[column] = pd.to_datetime(periods[column], utc=True).astype("datetime64[ms, UTC]")
    return periods.sort_values("pending_at", ascending=False, ignore_index=True)


def check_alert_history(states: DataFrame) -> Finding:
    """Return an alert if a limit's alert fires at the end of the window, with the highest severity.

    Alerts that fired and ended within the window are ok and listed with their times. A limit without a value at the end
    is unknown.
    """
    last = states[states["at"] == states.groupby("limit")["at"].transform("max")]
    ended = [name for name, each in last.groupby("limit") if (each["state"] == UNKNOWN).all()]
    silent = sorted({*states.attrs.get("silent", []), *ended})
    periods = alert_periods(states)
    fired = periods[periods["fired_at"].notna()]
    now, over = fired[fired["ended_at"].isna()], fired[fired["ended_at"].notna()]
    end = states["at"].max()
    no_value = f"no value for {', '.join(silent)}" if silent else ""
    notes = [
        f"{len(over)} fired and ended: {_listed(over)}" if len(over) else "",
        f"judged every {duration_text(states.attrs['step_seconds'])}" if "step_seconds" in states.attrs else "",
    ]
    if len(now):
        names = [f"{row['alert']} {row['target']}" for row in now.to_dict("records")]
        return Finding(
            name="alert_history",
            status=Status.ALERT,
            severity=max((Severity(text) for text in now["severity"]), key=list(Severity).index),
            summary=_joined([f"{len(now)} firing at {end:%Y-%m-%d %H:%M:%S} UTC: {_listed(now)}", no_value, *notes]),
            targets=tuple(inert(name, 200) for name in names),
            hint="see each alert's own section of this page",
            observed_at=end.to_pydatetime(),
        )
    if silent:
        return Finding.unknown(
            "alert_history", _joined([no_value, f"no other alert fires at {end:%H:%M:%S} UTC", *notes])
        )
    quiet = f"no alert fires at {end:%Y-%m-%d %H:%M:%S} UTC"
    return Finding(
        name="alert_history", status=Status.OK, summary=_joined([quiet, *notes]), observed_at=end.to_pydatetime()
    )


def _listed(periods: DataFrame) -> str:
    """Return "SyncLag on node-3 10:03:15 to 10:20:00" for each period, the newest first."""
    texts = [
        f"{row['alert']} on {row['target']} {row['fired_at']:%m-%d %H:%M:%S}"
        + (f" to {row['ended_at']:%H:%M:%S}" if row["ended_at"] is not pd.NaT else "")
        for row in periods.head(_MAX_LISTED).to_dict("records")
    ]
    more = f" and {len(periods) - _MAX_LISTED} more" if len(periods) > _MAX_LISTED else ""
    return ", ".join(texts) + more


def _joined(parts: list[str]) -> str:
    return inert("; ".join(part for part in parts if part))
