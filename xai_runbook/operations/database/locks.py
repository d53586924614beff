"""Locks: who waits for whom, which transactions have been open for too long, and which of them do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.operations.database.sessions import require_stats_privilege

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database


def blocked_sessions(database: Database) -> DataFrame:
    """Client sessions that wait for a lock that another session holds, longest waiting first.

    Columns: target, pid, database, role, application_name, blocked_by (pids; 0 is a prepared transaction),
    blocked_by_application, waiting_seconds, mode, waits_for (the table, or the kind of lock), query (cut, without
    literals). Errors: AccessDenied where the role does not see other sessions.
    Source: PostgreSQL docs, pg_blocking_pids, pg_locks.waitstart.
    """
    require_stats_privilege(database)
    return _named(database.frame("blocked_sessions"))


def lock_tree(database: Database) -> DataFrame:
    """The sessions that block others, and below each those that wait for it, in the order of a tree.

    Columns: target, depth (0 waits for nobody), pid, blocked_by, database, role, application_name, state,
    transaction_seconds, query. The one to cancel or terminate is at depth 0. Errors: AccessDenied as above.
    Source: PostgreSQL docs, pg_blocking_pids.
    """
    require_stats_privilege(database)
    return _named(database.frame("lock_tree"))


def idle_in_transaction(database: Database) -> DataFrame:
    """Client sessions that hold a transaction open and do nothing in it, longest idle first.

    Columns: target, pid, database, role, application_name, client_address, state, state_seconds, transaction_seconds,
    query (what it ran last). Errors: AccessDenied as above.
    Source: PostgreSQL docs, pg_stat_activity.state, idle_in_transaction_session_timeout.
    """
    require_stats_privilege(database)
    return _named(database.frame("idle_in_transaction"))


def long_transactions(database: Database) -> DataFrame:
    """Open transactions, oldest first: of client sessions, and prepared ones, which outlive their session.

    Columns: target, transaction (pid, or "prepared NAME"), database, role, application_name, state,
    transaction_seconds, horizon (vacuum must keep what died since it began), query. Errors: AccessDenied as above.
    Source: PostgreSQL docs, Routine Vacuuming, pg_prepared_xacts.
    """
    require_stats_privilege(database)
    return _named(database.frame("long_transactions"))


def check_blocked_sessions(blocked: DataFrame, limit: Limit) -> Finding:
    """`alert` that names the sessions that have waited for a lock longer than the limit allows, and for whom."""
    rows = blocked.to_dict("records")[:1]
    by = "".join(f", behind {row['blocked_by']} ({row['blocked_by_application']})" for row in rows)
    return _longest(blocked, limit, "waiting_seconds", f"waiting for a lock{by}", "nobody waits for a lock")


def check_idle_in_transaction(idle: DataFrame, limit: Limit) -> Finding:
    """`alert` that names the sessions that have idled in a transaction longer than the limit allows."""
    return _longest(idle, limit, "state_seconds", "idle in a transaction", "no transaction idles")


def check_long_transactions(transactions: DataFrame, limit: Limit) -> Finding:
    """`alert` that names the transactions that have been open longer than the limit allows."""
    return _longest(transactions, limit, "transaction_seconds", "in one transaction", "no transaction is open")


def _longest(frame: DataFrame, limit: Limit, value: str, noun: str, nobody: str) -> Finding:
    """As `judge`; but the queries above see everybody or raise, so that no rows are a good answer here."""
    if len(frame):
        return judge(limit, frame, value=value, target="target", noun=noun)
    return Finding(
        name=limit.name,
        status=Status.OK,
        severity=limit.severity,
        summary=f"{nobody}; alert when {limit.describe()}",
        hint=limit.hint,
    )


def _named(frame: DataFrame) -> DataFrame:
    """With the column `target`: "session 4711 of xai_app (xai-explorer)"."""
    whom = [
        f"{'' if str(number).startswith('prepared') else 'session '}{number} of {role} ({application or 'unnamed'})"
        for number, role, application in zip(
            frame["transaction" if "transaction" in frame else "pid"],
            frame["role"],
            frame["application_name"],
            strict=True,
        )
    ]
    frame.insert(0, "target", whom)
    return frame
