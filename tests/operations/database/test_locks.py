"""Blocked sessions, idle, long and prepared transactions on a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from pandas import DataFrame

from tests.support.postgres_server import Server, running
from xai_runbook import charts
from xai_runbook.clients.postgres.reader import Database
from xai_runbook.errors import AccessDenied
from xai_runbook.model.findings import Limit, Status
from xai_runbook.operations.database import locks, pools, sessions
from xai_runbook.sandbox.components import programs
from xai_runbook.settings import loading

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")

FIRST = b"UPDATE wallets SET balance = balance WHERE address = (SELECT min(address) FROM wallets)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("locks"), max_prepared_transactions="2") as started:
        yield started


@pytest.fixture(scope="module")
def handle(server: Server) -> Iterator[Database]:
    with server.handle() as handle:
        yield handle


def limit(name: str, **keys: Any) -> Limit:
    shipped = loading.load("sandbox").limits.by_name[name]
    fields = ("name", "title", "unit", "direction", "severity", "hint")
    return Limit(**{field: getattr(shipped, field) for field in fields} | {"threshold": 0.1} | keys)


def until(ask: Callable[[], DataFrame], rows: int) -> DataFrame:
    end = time.monotonic() + 20
    while True:
        frame = ask()
        if len(frame) == rows or time.monotonic() > end:
            return frame
        time.sleep(0.05)


@contextmanager
def waiting(server: Server, name: str, statement: bytes = FIRST) -> Iterator[psycopg.Connection[Any]]:
    """A session that is running a statement, whose result is not fetched."""
    with server.session("app", name) as session:
        session.pgconn.send_query(statement)
        yield session
        session.cancel_safe(timeout=5)
        while session.pgconn.get_result() is not None:
            pass


def test_no_session_waits(handle: Database) -> None:
    finding = locks.check_blocked_sessions(locks.blocked_sessions(handle), limit("lock_waits"))
    assert finding.status is Status.OK
    assert finding.summary == "no session waits for a lock; alert when above 100 ms"
    assert locks.lock_tree(handle).empty
    for ask, check, name in (
        (locks.idle_in_transaction, locks.check_idle_in_transaction, "idle_in_transaction"),
        (locks.long_transactions, locks.check_long_transactions, "transaction_age"),
    ):
        assert check(ask(handle), limit(name)).status is Status.OK


def test_a_chain_of_blocked_sessions(server: Server, handle: Database) -> None:
    """The second waits for the first, the third for the second; the first is at the root of the tree."""
    with server.session("app", "first") as first, first.transaction():
        first.execute(FIRST)
        pid = first.info.backend_pid
        with waiting(server, "second"):
            until(lambda: locks.blocked_sessions(handle), 1)
            with waiting(server, "third"):
                blocked = until(lambda: locks.blocked_sessions(handle), 2)
                tree = locks.lock_tree(handle)
                time.sleep(0.2)
                finding = locks.check_blocked_sessions(
                    locks.blocked_sessions(handle), limit("lock_waits", threshold=0.2)
                )
    assert set(blocked["application_name"]) == {"second", "third"}
    (row,) = blocked[blocked["application_name"] == "second"].to_dict("records")
    assert row["blocked_by"] == str(pid)
    assert row["blocked_by_application"] == "first"
    assert row["mode"] == "ShareLock" and row["waits_for"] == "transactionid"
    assert row["database"] == "xai_blockchain" and "'" not in row["query"]
    assert (tree["application_name"].iloc[0], tree["depth"].iloc[0], tree["depth"].iloc[1]) == ("first", 0, 1)
    assert finding.status is Status.ALERT
    assert "(first)" in finding.summary and "second" in finding.targets[0]
    charts.tree(tree, label="target", value="transaction_seconds")
    assert until(lambda: locks.blocked_sessions(handle), 0).empty


def test_the_locked_table_is_named(server: Server, handle: Database) -> None:
    with server.superuser() as superuser, superuser.transaction():
        superuser.execute("LOCK TABLE blocks IN ACCESS EXCLUSIVE MODE")
        with waiting(server, "reader", b"SELECT count(*) FROM blocks"):
            (row,) = until(lambda: locks.blocked_sessions(handle), 1).to_dict("records")
    assert (row["waits_for"], row["mode"]) == ("public.blocks", "AccessShareLock")


def test_idle_and_long_transactions(server: Server, handle: Database) -> None:
    with server.session("app", "forgetful") as forgetful, forgetful.transaction():
        pid = forgetful.info.backend_pid
        forgetful.execute("SELECT count(*) FROM wallets WHERE label = 'hunter2'")
        time.sleep(0.2)
        (idle,) = locks.idle_in_transaction(handle).to_dict("records")
        (open_now,) = locks.long_transactions(handle).to_dict("records")
        forgotten = locks.check_idle_in_transaction(locks.idle_in_transaction(handle), limit("idle_in_transaction"))
        long = locks.check_long_transactions(locks.long_transactions(handle), limit("transaction_age"))
    assert idle["application_name"] == "forgetful" and idle["state_seconds"] > 0.15
    assert "hunter2" not in idle["query"] and "hunter2" not in open_now["query"]
    assert open_now["transaction"] == str(pid)
    assert forgotten.targets == long.targets == (f"session {pid} of xai_app (forgetful)",)
    assert (forgotten.status, long.status) == (Status.ALERT, Status.ALERT)


def test_a_prepared_transaction_outlives_its_session(server: Server, handle: Database) -> None:
    """It has no session but keeps its locks: it is listed, and the sessions that it blocks are below it."""
    with server.session("app") as session:
        session.execute("BEGIN")
        session.execute(FIRST)
        session.execute("PREPARE TRANSACTION 'forgotten'")
    try:
        (row,) = locks.long_transactions(handle).to_dict("records")
        with waiting(server, "behind"):
            (blocked,) = until(lambda: locks.blocked_sessions(handle), 1).to_dict("records")
            tree = locks.lock_tree(handle)
    finally:
        with server.session("app") as session:
            session.execute("ROLLBACK PREPARED 'forgotten'")
    assert row["target"] == "prepared forgotten of xai_app (unnamed)" and row["holds_back_vacuum"]
    assert (blocked["blocked_by"], blocked["blocked_by_application"]) == ("0", "prepared transaction")
    assert list(tree["application_name"]) == ["prepared transaction", "behind"]


def test_without_the_privilege_nothing_is_counted(server: Server) -> None:
    """E35: without pg_monitor other sessions are hidden, so "no session waits" would be wrong."""
    with server.superuser() as superuser:
        superuser.execute("CREATE ROLE half_blind LOGIN PASSWORD 'seen'")
        superuser.execute("GRANT CONNECT ON DATABASE xai_blockchain TO half_blind")
        superuser.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO half_blind")
    secret = server.layout.folder / "half_blind"
    secret.write_text("seen")
    asks: list[Callable[[Database], DataFrame]] = [
        sessions.connections, sessions.sessions, locks.blocked_sessions, locks.lock_tree, locks.idle_in_transaction,
        locks.long_transactions, pools.connections_by_state, pools.connection_leaks,
    ]  # fmt: skip
    with server.handle(user="half_blind", password=f"file:{secret}") as handle:
        for ask in asks:
            with pytest.raises(AccessDenied, match="may not see other roles' sessions") as caught:
                ask(handle)
            assert "pg_monitor" in caught.value.hint
        watched = pools.watch_connections(handle, interval="100ms", duration="0s")
    assert "may not see" in watched["error"].iloc[0]
