"""Recovery state, standbys, their lag, and replication slots, as seen by the connected server."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import CannotAsk, InputError
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

_COLUMNS = (
    "standby", "expected", "connected", "state", "sync_state", "client_address", "lag_bytes", "lag_seconds",
    "connected_at", "error",
)  # fmt: skip
MAX_WATCH_SECONDS = 3600.0
HIDDEN = "hidden from the role: GRANT pg_monitor to it"


def recovery(database: Database) -> DataFrame:
    """Return one row: whether this server is a standby, whether the settings expect one, and its lag.

    Columns: target, in_recovery, expected_in_recovery (from the settings), received_lsn, replayed_lsn, lag_bytes,
    lag_seconds (since the last replayed transaction; 0 if all received WAL is replayed), last_replayed_at,
    receiver_status, sender_host, sender_port, replay_paused. Source: PostgreSQL docs, Recovery Information Functions.
    """
    frame = database.frame("recovery")
    frame.insert(0, "target", database.dbname)
    frame.insert(2, "expected_in_recovery", database.settings.in_recovery)
    return frame


def standbys(database: Database) -> DataFrame:
    """Return the standbys that are connected to this server or should be, and this server if it is a standby.

    Columns: standby (its application_name), expected, connected (1 or 0), state, sync_state, client_address, lag_bytes
    (not replayed yet), lag_seconds (0 if everything is replayed; NaN if unknown, then `error` says why), connected_at,
    error. Source: PostgreSQL docs, pg_stat_replication; the runbook has nothing on it.
    """
    from pandas import DataFrame

    expected = database.settings.standbys
    rows = [row | {"connected": 1.0, "error": _lag_error(row)} for row in database.rows("standbys")]
    for name in [name for name in expected if name not in [row["standby"] for row in rows]]:
        rows.append({"standby": name, "connected": 0.0, "error": "not connected"})
    (own,) = database.rows("recovery")
    if own["in_recovery"]:
        row = {"standby": "this server", "state": own["receiver_status"], "client_address": own["sender_host"]}
        row |= {"connected": 1.0, "error": "" if own["lag_seconds"] is not None else "nothing has been replayed yet"}
        rows.append(row | {name: own[name] for name in ("lag_bytes", "lag_seconds")})
    frame = DataFrame([row | {"expected": row["standby"] in expected} for row in rows], columns=list(_COLUMNS))
    return frame.astype({"connected": float, "lag_bytes": float, "lag_seconds": float, "expected": bool})


def watch_lag(database: Database, *, interval: str = "5s", duration: str = "1m") -> DataFrame:
    """Sample the lag of each standby for `duration`, or until Ctrl-C.

    Columns: standby, at (UTC), value (seconds; NaN if unknown at that time). Errors: InputError; those of the first
    sample. For a longer history use postgres_exporter's pg_stat_replication_pg_wal_lsn_diff, in bytes.
    """
    from pandas import Timestamp, concat

    pause, end = duration_seconds(interval), time.monotonic() + duration_seconds(duration)
    if pause < 0.1 or duration_seconds(duration) > MAX_WATCH_SECONDS:
        raise InputError(
            "interval must be at least 100ms, and duration at most 1h", on=f"interval {interval}, duration {duration}"
        )
    samples = [standbys(database)[["standby", "lag_seconds"]].assign(at=Timestamp.now("UTC"))]
    try:
        while time.monotonic() + pause <= end:
            time.sleep(pause)
            try:
                sample = standbys(database)[["standby", "lag_seconds"]]
            except CannotAsk:
                sample = samples[-1][["standby", "lag_seconds"]].assign(lag_seconds=math.nan)
            samples.append(sample.assign(at=Timestamp.now("UTC")))
    except KeyboardInterrupt:  # Ctrl-C ends the watch
        pass
    lags = concat([sample for sample in samples if len(sample)] or samples[:1], ignore_index=True)
    return lags.rename(columns={"lag_seconds": "value"})[["standby", "at", "value"]]


def replication_slots(database: Database) -> DataFrame:
    """Return the replication slots and the WAL that each retains.

    Columns: slot, kind, database, active, wal_status (server 13 and later), invalid_because (None if it is valid),
    retained_bytes (WAL kept for it), safe_wal_bytes (WAL that can be written before the slot is invalidated; NaN
    without such a limit, then a slot can fill the disk). Source: PostgreSQL docs, pg_replication_slots.
    """
    slots = database.frame("replication_slots")
    return slots.astype({"retained_bytes": float, "safe_wal_bytes": float})


def check_role(recovery: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if the server is a standby and the settings expect a primary, or the reverse: after a failover."""
    (row,) = recovery.to_dict("records")
    names = {True: "a standby (read-only)", False: "a primary"}
    as_expected = row["in_recovery"] == row["expected_in_recovery"]
    return Finding(
        name=limit.name,
        status=Status.OK if as_expected else Status.ALERT,
        severity=limit.severity,
        summary=f"{row['target']} is {names[row['in_recovery']]}"
        + (", as expected" if as_expected else f", but the settings expect {names[row['expected_in_recovery']]}"),
        targets=() if as_expected else (row["target"],),
        hint=limit.hint,
    )


def check_standbys(standbys: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if a standby that the settings expect is not connected."""
    expected = standbys[standbys["expected"]]
    others = ", ".join(standbys.loc[~standbys["expected"] & (standbys["connected"] == 1), "standby"])
    also = f"; connected but not expected: {others}" if others else ""
    if expected.empty:
        return _ok(limit, f"the settings expect no standby{also or ', and none is connected'}")
    missing = tuple(expected.loc[expected["connected"] == 0, "standby"])
    if missing:
        return Finding(
            name=limit.name,
            status=Status.ALERT,
            severity=limit.severity,
            summary=f"not connected: {', '.join(missing)} ({len(missing)} of {len(expected)} expected){also}",
            targets=missing,
            hint=limit.hint,
        )
    return _ok(limit, f"connected, as expected: {', '.join(expected['standby'])}{also}")


def check_lag(standbys: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if the lag of a standby exceeds the limit, and `unknown` if its lag is unknown."""
    if standbys.empty:
        return _ok(limit, "no standby is expected, and none is connected")
    return judge(limit, standbys, value="lag_seconds", target="standby", noun="behind")


def check_slots(slots: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if a slot retains more WAL than the limit, or is invalid, so that its standby must be rebuilt."""
    if slots.empty:
        return _ok(limit, "there are no replication slots")
    lost = slots[slots["invalid_because"].notna()]
    if lost.empty:
        return judge(limit, slots, value="retained_bytes", target="slot", noun="of WAL retained")
    invalid = "; ".join(f"{row.slot} is invalid: {row.invalid_because}" for row in lost.itertuples())
    rest = slots[slots["invalid_because"].isna()]
    retained = (
        _ok(limit, "")
        if rest.empty
        else judge(limit, rest, value="retained_bytes", target="slot", noun="of WAL retained")
    )
    return replace(
        retained,
        status=Status.ALERT,
        summary=invalid + (f"; {retained.summary}" if retained.status is not Status.OK else ""),
        targets=(*lost["slot"], *retained.targets),
    )


def _lag_error(row: Mapping[str, Any]) -> str:
    """Return why the lag in seconds is unknown; empty if it is known."""
    if row["state"] is None:
        return HIDDEN
    if row["lag_seconds"] is not None:
        return ""
    catching_up = f"it is in state {row['state']}, not yet up to date"
    return "it has not reported its position yet" if row["state"] == "streaming" else catching_up


def _ok(limit: Limit, summary: str) -> Finding:
    return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=summary, hint=limit.hint)
