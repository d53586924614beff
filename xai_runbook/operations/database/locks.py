"""Blocked sessions, the lock tree, and idle and long transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.operations.database.sessions import require_stats_privilege

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database


def blocked_sessions(database: Database) -> DataFrame:
    """Return the client sessions that wait for a lock, longest waiting first.

    Columns: target, pid, database, role, application_name, blocked_by (pids; 0 is a prepared transaction),
    blocked_by_application, waiting_seconds, mode, waits_for (the table, or the type of lock), query (truncated, without
    literals). Errors: AccessDenied if the role may not see other sessions.
    Source: PostgreSQL docs, pg_blocking_pids, pg_locks.waitstart.
    """
    require_stats_privilege(database)
    return _with_target(database.frame("blocked_sessions"))


def lock_tree(database: Database) -> DataFrame:
    """Return the sessions that block others, each followed by the sessions that wait for it.

    Columns: target, depth (0: waits for no one), pid, blocked_by, database, role, application_name, state,
    transaction_seconds, query. The session to cancel or terminate is at depth 0. Errors: AccessDenied if the role may
    not see other sessions.
    Source: PostgreSQL docs, pg_blocking_pids.
    """
    require_stats_privilege(database)
    return _with_target(database.frame("lock_tree"))


def idle_in_transaction(database: Database) -> DataFrame:
    """Return the client sessions that are idle in a transaction, longest idle first.

    Columns: target, pid, database, role, application_name, client_address, state, state_seconds, transaction_seconds,
    query (the last one). Errors: AccessDenied if the role may not see other sessions.
    Source: PostgreSQL docs, pg_stat_activity.state, idle_in_transaction_session_timeout.
    """
    require_stats_privilege(database)
    return _with_target(database.frame("idle_in_transaction"))


def long_transactions(database: Database) -> DataFrame:
    """Return the open transactions, oldest first: of client sessions, and prepared ones, which outlive their session.

    Columns: target, transaction (pid, or "prepared NAME"), database, role, application_name, state,
    transaction_seconds, holds_back_vacuum (rows that died since it began cannot be vacuumed), query.
    Errors: AccessDenied if the role may not see other sessions.
    Source: PostgreSQL docs, Routine Vacuuming, pg_prepared_xacts.
    """
    require_stats_privilege(database)
    return _with_target(database.frame("long_transactions"))


def check_blocked_sessions(blocked: DataFrame, limit: Limit) -> Finding:
    """Return `alert` with the sessions that have waited for a lock longer than the limit, and who blocks them."""
    rows = blocked.to_dict("records")[:1]
    by = "".join(f", blocked by {row['blocked_by']} ({row['blocked_by_application']})" for row in rows)
    return _longest(blocked, limit, "waiting_seconds", f"waiting for a lock{by}", "no session waits for a lock")


def check_idle_in_transaction(idle: DataFrame, limit: Limit) -> Finding:
    """Return `alert` with the sessions that have been idle in a transaction longer than the limit."""
    return _longest(idle, limit, "state_seconds", "idle in a transaction", "no session is idle in a transaction")


def check_long_transactions(transactions: DataFrame, limit: Limit) -> Finding:
    """Return `alert` with the transactions that have been open longer than the limit."""
    return _longest(transactions, limit, "transaction_seconds", "in one transaction", "no transaction is open")


def _longest(frame: DataFrame, limit: Limit, value: str, noun: str, none: str) -> Finding:
    """Judge the frame; no rows are `ok`, since the queries raise where sessions are hidden."""
    if len(frame):
        return judge(limit, frame, value=value, target="target", noun=noun)
    return Finding(
        name=limit.name,
        status=Status.OK,
        severity=limit.severity,
        summary=f"{none}; alert when {limit.describe()}",
        hint=limit.hint,
    )


def _with_target(frame: DataFrame) -> DataFrame:
    """Insert the column `target`, such as "session 4711 of xai_app (xai-explorer)"."""
    targets = [
        f"{'' if str(number).startswith('prepared') else 'session '}{number} of {role} ({application or 'unnamed'})"
        for number, role, application in zip(
            frame["transaction" if "transaction" in frame else "pid"],
            frame["role"],
            frame["application_name"],
            strict=True,
        )
    ]
    frame.insert(0, "target", targets)
    return frame
