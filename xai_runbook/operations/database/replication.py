"""Section 3 of the runbook: standbys and replication slots, as the server that is asked sees them."""

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
LONGEST_WATCH_SECONDS = 3600.0
HIDDEN = "the role may not see it: GRANT pg_monitor to it"


def recovery(database: Database) -> DataFrame:
    """One row: whether this server is a standby, whether it is meant to be one, and how far behind it is.

    Columns: target, in_recovery, meant (whether the settings say in_recovery), received_lsn, replayed_lsn, lag_bytes,
    lag_seconds (since the last replayed transaction; 0 where all that came is replayed), last_replayed_at,
    receiver_status, sender_host, sender_port, replay_paused. Source: PostgreSQL docs, Recovery Information Functions.
    """
    told = database.frame("recovery")
    told.insert(0, "target", database.dbname)
    told.insert(2, "meant", database.settings.in_recovery)
    return told


def standbys(database: Database) -> DataFrame:
    """A row for each standby that is connected to this server, or should be; this server itself if it is one.

    Columns: standby (its application_name), expected, connected (1 or 0), state, sync_state, client_address,
    lag_bytes (what it has not replayed yet), lag_seconds (0 where nothing is missing; NaN where it cannot be told,
    then `error` says why), connected_at, error. The runbook has no line for it. Source: PostgreSQL docs,
    pg_stat_replication.
    """
    from pandas import DataFrame

    expected = database.settings.standbys
    rows = [row | {"connected": 1.0, "error": _why(row)} for row in database.rows("standbys")]
    for name in [name for name in expected if name not in [row["standby"] for row in rows]]:
        rows.append({"standby": name, "connected": 0.0, "error": "it is not connected"})
    (own,) = database.rows("recovery")
    if own["in_recovery"]:
        itself = {"standby": "this server", "state": own["receiver_status"], "client_address": own["sender_host"]}
        told = {"connected": 1.0, "error": "" if own["lag_seconds"] is not None else "nothing was replayed yet"}
        rows.append(itself | told | {name: own[name] for name in ("lag_bytes", "lag_seconds")})
    frame = DataFrame([row | {"expected": row["standby"] in expected} for row in rows], columns=list(_COLUMNS))
    return frame.astype({"connected": float, "lag_bytes": float, "lag_seconds": float, "expected": bool})


def watch_lag(database: Database, *, every: str = "5s", lasting: str = "1m") -> DataFrame:
    """How far behind each standby is, looked at again and again; ends by itself or at Ctrl-C.

    Columns: standby, at (UTC), value (seconds; NaN where it was not told at that look). Errors: InputError; those of
    the first look. For a longer time, postgres_exporter has pg_stat_replication_pg_wal_lsn_diff, in bytes.
    """
    from pandas import Timestamp, concat

    pause, end = duration_seconds(every), time.monotonic() + duration_seconds(lasting)
    if pause < 0.1 or duration_seconds(lasting) > LONGEST_WATCH_SECONDS:
        raise InputError("a watch looks every 100ms or more seldom, and ends within an hour", on=f"{every}, {lasting}")
    looks = [standbys(database)[["standby", "lag_seconds"]].assign(at=Timestamp.now("UTC"))]
    try:
        while time.monotonic() + pause <= end:
            time.sleep(pause)
            try:
                told = standbys(database)[["standby", "lag_seconds"]]
            except CannotAsk:
                told = looks[-1][["standby", "lag_seconds"]].assign(lag_seconds=math.nan)
            looks.append(told.assign(at=Timestamp.now("UTC")))
    except KeyboardInterrupt:  # whoever watched has seen enough
        pass
    every_look = concat([look for look in looks if len(look)] or looks[:1], ignore_index=True)
    return every_look.rename(columns={"lag_seconds": "value"})[["standby", "at", "value"]]


def replication_slots(database: Database) -> DataFrame:
    """A row for each replication slot.

    Columns: slot, kind, database, active, wal_status (server 13 and later), invalid_because (None while it is good),
    retained_bytes (WAL that is kept for it), room_bytes (what may be written before the server cuts it off; NaN
    where there is no such limit: then it can fill the disk). Source: PostgreSQL docs, pg_replication_slots.
    """
    slots = database.frame("replication_slots")
    return slots.astype({"retained_bytes": float, "room_bytes": float})


def check_role(recovery: DataFrame, limit: Limit) -> Finding:
    """`alert` where a standby answers and a primary is meant, or the other way round: a failover nobody told us of."""
    (row,) = recovery.to_dict("records")
    words = {True: "a standby (read-only)", False: "a primary"}
    as_meant = row["in_recovery"] == row["meant"]
    return Finding(
        name=limit.name,
        status=Status.OK if as_meant else Status.ALERT,
        severity=limit.severity,
        summary=f"{row['target']} is {words[row['in_recovery']]}"
        + (", as it should be" if as_meant else f", but the settings say that it is {words[row['meant']]}"),
        targets=() if as_meant else (row["target"],),
        hint=limit.hint,
    )


def check_standbys(standbys: DataFrame, limit: Limit) -> Finding:
    """`alert` where a standby that the settings expect is not connected."""
    expected = standbys[standbys["expected"]]
    others = ", ".join(standbys.loc[~standbys["expected"] & (standbys["connected"] == 1), "standby"])
    also = f"; connected without being expected: {others}" if others else ""
    if expected.empty:
        return _all_right(limit, f"the settings expect no standby{also or ', and none is connected'}")
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
    return _all_right(limit, f"connected, as expected: {', '.join(expected['standby'])}{also}")


def check_lag(standbys: DataFrame, limit: Limit) -> Finding:
    """`alert` where a standby is further behind than the limit allows; unknown where it does not tell."""
    if standbys.empty:
        return _all_right(limit, "no standby is expected, and none is connected")
    return judge(limit, standbys, value="lag_seconds", target="standby", noun="behind")


def check_slots(slots: DataFrame, limit: Limit) -> Finding:
    """`alert` where a slot keeps more WAL than the limit allows, or was cut off: its standby must be made anew."""
    if slots.empty:
        return _all_right(limit, "there are no replication slots")
    lost = slots[slots["invalid_because"].notna()]
    if lost.empty:
        return judge(limit, slots, value="retained_bytes", target="slot", noun="of WAL kept")
    words = "; ".join(f"{row.slot} is invalid: {row.invalid_because}" for row in lost.itertuples())
    rest = slots[slots["invalid_because"].isna()]
    kept = (
        _all_right(limit, "") if rest.empty else judge(limit, rest, value="retained_bytes", target="slot", noun="kept")
    )
    return replace(
        kept,
        status=Status.ALERT,
        summary=words + (f"; {kept.summary}" if kept.status is not Status.OK else ""),
        targets=(*lost["slot"], *kept.targets),
    )


def _why(row: Mapping[str, Any]) -> str:
    """Why there is no lag in seconds; empty where there is one."""
    if row["state"] is None:
        return HIDDEN
    if row["lag_seconds"] is not None:
        return ""
    catching_up = f"it is in state {row['state']}, not yet up to date"
    return "it has not yet said how far it is" if row["state"] == "streaming" else catching_up


def _all_right(limit: Limit, summary: str) -> Finding:
    return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=summary, hint=limit.hint)
