"""Faults in the sandbox's PostgreSQL that are made by open sessions or by the superuser.

The supervisor's process keeps the sessions of a fault open until `close_sessions`. `application` sessions belong to the
application's role, so the operator may terminate them. `superuser` connects through the socket in the data folder. The
rows that name these functions are in `table.FAULTS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import pgbouncer, postgres_template

if TYPE_CHECKING:
    import psycopg

    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

CONNECTIONS_LEFT = 6
"""Slots that `connections-taken` leaves free, because the check itself must be able to connect."""

IDLE_TRANSACTIONS = 3
LEAKED_CONNECTIONS = 15

UNUSED_SLOT = "xai_old_replica"
SEGMENTS_KEPT = 12
"""WAL segments of 4 MiB each: more than the sandbox's limit of 32 MiB."""

ROLLBACKS = 400
COMMITS = 1000
"""As many as `recent_transactions` looks at."""

_sessions: dict[str, list[psycopg.Connection[Any]]] = {}


@contextmanager
def superuser(supervisor: Supervisor) -> Iterator[psycopg.Connection[Any]]:
    """Open a superuser's session in the application's database, in autocommit mode, for a with block."""
    layout = supervisor.layout
    try:
        with postgres_template.connect(
            layout.folder / "postgres" / "data", layout.ports["postgres"], layout.database
        ) as connection:
            yield connection
    except OSError as error:
        raise SandboxError(f"cannot connect to the sandbox's database: {error.strerror}", on="postgres") from None


def application(
    supervisor: Supervisor, name: str, *, port: int | None = None, autocommit: bool = True
) -> psycopg.Connection[Any]:
    """Return a session of the application's role with that application name; the caller closes or holds it."""
    import psycopg

    layout = supervisor.layout
    role = layout.role("app")
    return psycopg.connect(
        host=layout.host,
        port=port or layout.ports["postgres"],
        dbname=layout.database,
        user=role.name,
        password=role.password(),
        sslmode="disable",
        connect_timeout=5,
        application_name=name,
        autocommit=autocommit,
        prepare_threshold=None,  # through the pooler, a prepared statement may reach another server session
    )


def hold_session(fault: str, session: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Keep the session open until `close_sessions(fault)`; return it."""
    _sessions.setdefault(fault, []).append(session)
    return session


def close_sessions(supervisor: Supervisor, fault: str) -> None:
    """Close the sessions of a fault. Errors are ignored, because a restart of the server closes them too."""
    for session in reversed(_sessions.pop(fault, [])):
        with suppress(Exception):
            # otherwise the server continues a statement whose client has gone
            session.cancel_safe(timeout=5)
        with suppress(Exception):
            session.close()


@contextmanager
def _close_sessions_on_error(supervisor: Supervisor, fault: str) -> Iterator[None]:
    """Close the fault's sessions if the block raises."""
    try:
        yield
    except BaseException:
        close_sessions(supervisor, fault)
        raise


def hold_lock(supervisor: Supervisor, fault: str) -> None:
    """Update a row in one session without committing, and wait for that row in another."""
    statement = b"UPDATE wallets SET balance = balance WHERE address = (SELECT min(address) FROM wallets)"
    with _close_sessions_on_error(supervisor, fault):
        hold_session(fault, application(supervisor, "xai-settlement", autocommit=False)).execute(statement)
        waiter = hold_session(fault, application(supervisor, "xai-wallet-api"))
        waiter.pgconn.send_query(statement)  # the answer is never fetched, so this thread does not wait for the lock


def open_idle_transactions(supervisor: Supervisor, fault: str) -> None:
    """Leave sessions idle in a transaction that has read rows."""
    with _close_sessions_on_error(supervisor, fault):
        for number in range(IDLE_TRANSACTIONS):
            session = hold_session(fault, application(supervisor, f"xai-reporting-{number}", autocommit=False))
            session.execute("SELECT count(*) FROM wallets")


def open_long_transaction(supervisor: Supervisor, fault: str) -> None:
    """Run one statement that does not end, in one transaction."""
    with _close_sessions_on_error(supervisor, fault):
        session = hold_session(fault, application(supervisor, "xai-yearly-report"))
        session.pgconn.send_query(b"SELECT pg_sleep(86400)")


def leak_connections(supervisor: Supervisor, fault: str) -> None:
    """Open sessions of one application that are used once and never closed."""
    with _close_sessions_on_error(supervisor, fault):
        for _ in range(LEAKED_CONNECTIONS):
            hold_session(fault, application(supervisor, "xai-webhooks")).execute("SELECT 1")


def exhaust_pool(supervisor: Supervisor, fault: str) -> None:
    """Keep every server connection of the application's pool in a transaction; one more client waits."""
    port = supervisor.layout.ports["pooler"]
    if "pooler" not in supervisor.parts:
        raise SandboxError("pooler is not part of this sandbox", hint="apt-get install pgbouncer")
    with _close_sessions_on_error(supervisor, fault):
        for _ in range(pgbouncer.POOL_SIZE):
            session = hold_session(fault, application(supervisor, "xai-checkout", port=port, autocommit=False))
            session.execute("SELECT 1")
        waiter = hold_session(fault, application(supervisor, "xai-mobile-api", port=port))
        waiter.pgconn.send_query(b"SELECT 1")


def take_connections(supervisor: Supervisor, fault: str) -> None:
    """Open idle sessions until only CONNECTIONS_LEFT slots are free."""
    with superuser(supervisor) as connection:
        row = connection.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            " - count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    with _close_sessions_on_error(supervisor, fault):
        for _ in range(row[0] - CONNECTIONS_LEFT):
            hold_session(fault, application(supervisor, "xai-batch"))


def create_unused_slot(supervisor: Supervisor, fault: str) -> None:
    """Create a replication slot that nobody uses, and write more WAL than the limit."""
    with superuser(supervisor) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [UNUSED_SLOT])
        for _ in range(SEGMENTS_KEPT):
            connection.execute("SELECT pg_logical_emit_message(false, 'xai-runbook', 'filler')")
            connection.execute("SELECT pg_switch_wal()")


def drop_unused_slot(supervisor: Supervisor, fault: str) -> None:
    """Drop the slot that `create_unused_slot` created; the next checkpoint frees the WAL."""
    with superuser(supervisor) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [UNUSED_SLOT]
        )
        connection.execute("CHECKPOINT")


def corrupt_page(supervisor: Supervisor, fault: str) -> None:
    """Overwrite part of a table's page on disk, in a database created for it, and read the table."""
    import psycopg

    layout = supervisor.layout
    data = layout.folder / "postgres" / "data"
    with superuser(supervisor) as connection:
        connection.execute("CREATE DATABASE xai_damaged TEMPLATE template0")
    with postgres_template.connect(data, layout.ports["postgres"], "xai_damaged") as connection:
        connection.execute(
            "CREATE TABLE ledger AS SELECT n, repeat('x', 200) AS note FROM generate_series(1, 200) AS n"
        )
        connection.execute("VACUUM FULL ledger")  # a rewritten table is not in shared buffers
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT pg_relation_filepath('ledger')").fetchone()
        assert row is not None
        with open(data / row[0], "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 16)
        with suppress(psycopg.errors.DataCorrupted):
            connection.execute("SELECT count(*) FROM ledger")


def drop_corrupted_database(supervisor: Supervisor, fault: str) -> None:
    """Drop the database that `corrupt_page` created, and with it its count of checksum failures."""
    with superuser(supervisor) as connection:
        connection.execute("DROP DATABASE IF EXISTS xai_damaged")


def roll_back_transactions(supervisor: Supervisor, fault: str) -> None:
    """Run transactions of the application that write and are rolled back."""
    with application(supervisor, "xai-settlement", autocommit=False) as session:
        for _ in range(ROLLBACKS):
            session.execute("UPDATE wallets SET balance = balance WHERE address = (SELECT min(address) FROM wallets)")
            session.rollback()


def commit_transactions(supervisor: Supervisor, fault: str) -> None:
    """Commit so many small transactions that the newest ones contain no rollback."""
    with superuser(supervisor) as connection:
        connection.execute("SET synchronous_commit = off")
        for _ in range(COMMITS):
            connection.execute("SELECT txid_current()")
