"""Faults of the sandbox's PostgreSQL that outlive their session and need maintenance.

The rows that name these functions are in `table.FAULTS`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from xai_runbook.sandbox.faults.database import application, superuser

if TYPE_CHECKING:
    import psycopg

    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

DEAD_ROWS = 6000
SLOW_SECONDS = 1.5
SLOW_CALLS = 6

FEW_WALLETS = 20
MOST_WALLETS = 1500
LAST_RECEIVED = """
SELECT address, (SELECT max(created_at) FROM transactions WHERE receiver = address) AS last_received_at
FROM wallets ORDER BY address LIMIT {}
"""
"""With the index it reads one entry per wallet, without it the whole table per wallet."""


def create_invalid_index(supervisor: Supervisor) -> None:
    """Create a unique index concurrently that fails on duplicates and stays behind, invalid."""
    import psycopg

    with superuser(supervisor) as connection, suppress(psycopg.errors.UniqueViolation):
        connection.execute("SET ROLE xai_owner")
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY transactions_kind ON transactions (kind)")


def drop_invalid_index(supervisor: Supervisor) -> None:
    """Drop the invalid index, if it exists."""
    with superuser(supervisor) as connection:
        connection.execute("DROP INDEX CONCURRENTLY IF EXISTS transactions_kind")


def make_dead_rows(supervisor: Supervisor) -> None:
    """Insert and delete many wallets with autovacuum disabled, so that most rows of the table are dead."""
    with superuser(supervisor) as connection:
        connection.execute("ALTER TABLE wallets SET (autovacuum_enabled = off)")
        # skips foreign key checks, which would scan tables without an index for each deleted wallet
        connection.execute("SET session_replication_role = replica")
        with connection.transaction():
            connection.execute(
                "INSERT INTO wallets (address, created_at) SELECT 'XAI' || lpad(to_hex(n), 40, '0'), now()"
                " FROM generate_series(1, %s) n",
                [DEAD_ROWS],
            )
            connection.execute(
                "DELETE FROM wallets WHERE address <= 'XAI' || lpad(to_hex(%s::int), 40, '0')", [DEAD_ROWS]
            )


def vacuum_dead_rows(supervisor: Supervisor) -> None:
    """Enable autovacuum again, and vacuum the table."""
    with superuser(supervisor) as connection:
        connection.execute("ALTER TABLE wallets RESET (autovacuum_enabled)")
        connection.execute("VACUUM (ANALYZE) wallets")


def run_slow_statement(supervisor: Supervisor) -> None:
    """Run a slow statement of the application several times concurrently."""
    _run_concurrently(supervisor, f"SELECT pg_sleep({SLOW_SECONDS}) AS rich_list")


def reset_slow_statement(supervisor: Supervisor) -> None:
    """Reset the statistics of that statement, as after a fix."""
    _reset_statistics(supervisor, "rich_list")


def drop_index(supervisor: Supervisor) -> None:
    """Drop an index that the application relies on, and run a statement that needs it."""
    with superuser(supervisor) as connection:
        connection.execute("DROP INDEX IF EXISTS transactions_receiver")
        started = time.monotonic()
        connection.execute(LAST_RECEIVED.format(FEW_WALLETS).encode())
        seconds_per_wallet = (time.monotonic() - started) / FEW_WALLETS
    wallets = min(MOST_WALLETS, int(SLOW_SECONDS / seconds_per_wallet) + 1)  # enough to take SLOW_SECONDS here
    _run_concurrently(supervisor, LAST_RECEIVED.format(wallets))


def recreate_index(supervisor: Supervisor) -> None:
    """Create the index again, if it is missing, and reset the statistics of that statement."""
    with superuser(supervisor) as connection:
        connection.execute("SET ROLE xai_owner")
        connection.execute("CREATE INDEX IF NOT EXISTS transactions_receiver ON transactions (receiver, created_at)")
    _reset_statistics(supervisor, "last_received_at")


def _run_concurrently(supervisor: Supervisor, statement: str) -> None:
    sessions: list[psycopg.Connection[Any]] = []
    try:
        for _ in range(SLOW_CALLS):
            sessions.append(application(supervisor, "xai-explorer"))
            sessions[-1].pgconn.send_query(statement.encode())
        for session in sessions:
            while session.pgconn.get_result() is not None:
                pass
    finally:
        for session in sessions:
            session.close()


def _reset_statistics(supervisor: Supervisor, word: str) -> None:
    with superuser(supervisor) as connection:
        connection.execute(
            "SELECT pg_stat_statements_reset(userid, dbid, queryid) FROM pg_stat_statements"
            " WHERE strpos(query, %s) > 0",
            [word],
        )
