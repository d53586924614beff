"""Section 3 of the runbook: the database. Queries and their checks; every query runs as the read-only role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.findings import Finding, Limit, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.database import Database


def identity(database: Database) -> DataFrame:
    """One row: which server answers, and as whom we ask.

    Columns: system_identifier, database, powers (empty: the role can change nothing), role, server_address,
    server_port, version, in_recovery, started_at. Source: PostgreSQL docs, pg_control_system.
    """
    return database.frame("identity")


def connections(database: Database) -> DataFrame:
    """One row: client backends in use, and the ceiling that a client meets.

    Columns: target, used (count), usable (count: max_connections less the reserved ones), used_ratio (0 to 1).
    Source: runbook, Connection Management; PostgreSQL docs, max_connections, reserved_connections.
    """
    counts = database.frame("connections")
    counts.insert(0, "target", database.dbname)
    return counts.assign(used_ratio=counts["used"] / counts["usable"])


def sessions(database: Database, *, most: int = 50) -> DataFrame:
    """Client sessions, those longest in their state first; at most `most`.

    Columns: pid, database, role, application_name, client_address, state, wait_event_type, wait_event, state_seconds,
    transaction_seconds, started_at, query (its first 80 characters, literals left out).
    Source: runbook, Connection Management; PostgreSQL docs, pg_stat_activity.
    """
    return database.frame("sessions", {"most": most})


def check_pool(connections: DataFrame, limit: Limit) -> Finding:
    """`alert` where more of the usable connections are in use than the limit allows."""
    used, usable = connections[["used", "usable"]].iloc[0]
    return judge(limit, connections, value="used_ratio", target="target", noun=f"in use ({used} of {usable})")
