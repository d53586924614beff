"""Sessions and connections on a real server: the reader role can change nothing, and every failure is translated."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest

from tests.support.pace import stretched
from tests.support.postgres_server import SLOTS, Server, running
from xai_runbook.clients.postgres.reader import Database
from xai_runbook.environment import Environment
from xai_runbook.errors import AccessDenied, CannotAsk, SettingsError, TimedOut, Unreachable, WrongServer
from xai_runbook.model.findings import Status
from xai_runbook.model.secret import Secret
from xai_runbook.operations import reachability
from xai_runbook.operations.database import sessions as database
from xai_runbook.sandbox.components import postgres_template, programs
from xai_runbook.sql import statement

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("postgres")) as started:
        yield started


def refusal(handle: Database) -> CannotAsk:
    """Return the error of a query, which must not contain a secret or a connection string."""
    with pytest.raises(CannotAsk) as caught:
        handle.frame("identity")
    text = f"{caught.value} {caught.value!r}"
    for reference in ("monitor", "operator", "owner", "app"):
        assert secret_of(handle, reference) not in text
    assert "://" not in text
    assert caught.value.__cause__ is None
    assert caught.value.hint
    return caught.value


def secret_of(handle: Database, role: str) -> str:
    password = handle._settings.password
    if password is None or not password.reference.startswith("file:"):
        return "a password that is not used"
    path = Path(password.reference.removeprefix("file:"))
    return (path.parent / f"{role}.password").read_text().strip() if path.parent.name == "secrets" else path.read_text()


# --- queries -----------------------------------------------------------------------------------------------------


def test_connections(env: Environment) -> None:
    used = database.connections(env.database)
    row = used.iloc[0]
    assert row["target"] == "xai_blockchain"
    assert 1 <= row["used"] < row["usable"]
    assert row["usable"] == 57  # 60 minus superuser_reserved_connections
    assert row["used_ratio"] == row["used"] / row["usable"]
    finding = database.check_pool(used, env.limits.database.pool)
    assert finding.status is Status.OK
    assert f"in use ({row['used']} of 57); alert when above 80 %" in finding.summary


def test_nearly_all_connections_in_use(env: Environment) -> None:
    full = pd.DataFrame({"target": ["xai_blockchain"], "used": [50], "usable": [57], "used_ratio": [50 / 57]})
    finding = database.check_pool(full, env.limits.database.pool)
    assert (finding.status, finding.targets) == (Status.ALERT, ("xai_blockchain",))
    assert finding.summary == "87.72 % in use (50 of 57): above 80 %"


def test_identity(env: Environment, sandbox: dict[str, Any]) -> None:
    (row,) = database.identity(env.database).to_dict("records")
    assert row["system_identifier"] == sandbox["overlay"]["database"]["system_identifier"]
    assert (row["role"], row["database"], row["write_privileges"]) == ("xai_monitor", "xai_blockchain", "")
    assert row["started_at"].tzinfo is not None


def test_sessions_show_no_literals(server: Server) -> None:
    with server.handle() as handle, server.superuser() as other:
        other.execute("SELECT 'hunter2'")
        (row,) = database.sessions(handle).query("application_name == 'xai-runbook sandbox'").to_dict("records")
        assert "hunter2" not in row["query"]
        assert row["state"] == "idle"
        assert row["state_seconds"] >= 0
        assert len(database.sessions(handle, max_rows=1)) == 1


def test_reachable(env: Environment) -> None:
    reachable = reachability.database(env.database)
    finding = reachability.check_reachable(reachable, env.limits.database.database_reachable)
    assert finding.status is Status.OK
    assert finding.summary == f"{env.database.address} answers"
    assert "as xai_monitor" in reachable["detail"].iloc[0]


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [("connections", 13, None), ("connections", 15, None), ("connections", 16, "reserved_connections'"),
     ("connections", 18, "current_setting('reserved_connections')"), ("identity", 18, "pg_control_system")],
)  # fmt: skip
def test_the_variant_for_a_server_version(name: str, version: int, text: str | None) -> None:
    sql = statement(name, version)
    if text is None:
        assert "current_setting('reserved_connections')" not in sql
    else:
        assert text in sql


# --- privileges -------------------------------------------------------------------------------------------------

CHANGES = [
    "INSERT INTO wallets VALUES ('XAI' || repeat('0', 40), now())",
    "UPDATE wallets SET balance = 0",
    "DELETE FROM utxos",
    "TRUNCATE utxos",
    "DROP TABLE utxos",
    "ALTER TABLE utxos ADD COLUMN x int",
    "BEGIN; LOCK TABLE utxos IN ACCESS EXCLUSIVE MODE",
    "SELECT * FROM wallets FOR UPDATE",
    "CREATE TABLE x (y int)",
    "CREATE TEMP TABLE x (y int)",
    "CREATE SEQUENCE x",
    "CREATE SCHEMA x",
    "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE DATABASE x",
    "CREATE ROLE x",
    "CREATE EXTENSION file_fdw",
    "ALTER SYSTEM SET work_mem = '1MB'",
    "ALTER ROLE xai_owner PASSWORD 'x'",
    "GRANT xai_owner TO xai_monitor",
    "SET ROLE xai_owner",
    "SET SESSION AUTHORIZATION xai_owner",
    "REINDEX TABLE blocks",
    "REINDEX DATABASE xai_blockchain",
    "CLUSTER blocks",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "COPY wallets FROM STDIN",
    "CHECKPOINT",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_reload_conf()",
    "SELECT pg_switch_wal()",
    "SELECT pg_stat_reset()",
    "SELECT pg_stat_statements_reset()",
    "SELECT pg_create_restore_point('x')",
    "SELECT pg_create_physical_replication_slot('x')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'xai_app'",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'xai_app'",
]


def test_the_monitor_can_change_nothing(server: Server) -> None:
    """P1: refused by the server, even without default_transaction_read_only, which any session can unset."""
    with server.session("app"), server.session("monitor") as monitor:
        monitor.execute("SET default_transaction_read_only = off")
        for change in CHANGES:
            with pytest.raises(psycopg.Error) as caught:
                monitor.execute(change)
            monitor.execute("ROLLBACK" if monitor.info.transaction_status.name == "INERROR" else "SELECT 1")
            assert caught.value.sqlstate in ("42501", "0LP01"), f"{change}: {caught.value}"


def test_the_monitor_cannot_vacuum(server: Server) -> None:
    """VACUUM and ANALYZE of another role's table only warn; the statistics show that nothing was done."""
    counters = "SELECT relname, vacuum_count, analyze_count FROM pg_stat_user_tables ORDER BY 1"
    with server.session("monitor") as monitor, server.superuser() as superuser:
        before = superuser.execute(counters).fetchall()
        monitor.execute("SET default_transaction_read_only = off")
        monitor.execute("VACUUM")
        monitor.execute("ANALYZE blocks")
        superuser.execute("SELECT pg_stat_clear_snapshot()")
        assert superuser.execute(counters).fetchall() == before


def test_session_settings(server: Server) -> None:
    """Set on connecting, whatever the role's own settings are."""
    expected = {
        "default_transaction_read_only": "on",
        "statement_timeout": "2000",
        "lock_timeout": "1000",
        "idle_in_transaction_session_timeout": "2000",
        "application_name": "xai-runbook",
        "search_path": "pg_catalog",
        "TimeZone": "UTC",
    }
    with server.handle() as handle:
        handle.frame("identity")
        assert handle._connection is not None
        rows = handle._connection.execute(
            "SELECT name, setting, source FROM pg_settings WHERE name = ANY(%s)", [list(expected)]
        ).fetchall()
    assert {name: setting for name, setting, _ in rows} == expected
    assert {source for _, _, source in rows} == {"client"}


@pytest.mark.parametrize(
    ("role", "privilege"), [("operator", "pg_signal_backend"), ("owner", "owner of the database"), ("app", "may write")]
)
def test_a_role_with_write_privileges_is_refused(server: Server, role: str, privilege: str) -> None:
    with server.handle(role) as handle:
        error = refusal(handle)
        assert type(error) is AccessDenied
        assert privilege in error.what
    server.wait_until_idle()


def test_a_superuser_is_refused(server: Server) -> None:
    host = str(server.layout.folder / "postgres" / "data")
    with server.handle(host=host, user=postgres_template.SUPERUSER, password=None) as handle:
        assert "superuser" in refusal(handle).what


# --- failures ---------------------------------------------------------------------------------------------------


def test_another_server_behind_the_name(server: Server) -> None:
    with server.handle(system_identifier="7300000000000000000") as handle:
        error = refusal(handle)
        assert type(error) is WrongServer
        assert "7300000000000000000" in error.what
        finding = reachability.check_reachable(reachability.database(handle), _limit())
    assert finding.status is Status.UNKNOWN
    assert "cannot be checked: this is server" in finding.summary


def test_a_wrong_password(server: Server, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("hunter2-wrong")
    with server.handle(password=f"file:{tmp_path / 'wrong'}") as handle:
        error = refusal(handle)
    assert type(error) is AccessDenied
    assert error.what == "the password is missing or wrong"


def test_a_missing_password(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    with server.handle(password=None) as handle:
        assert type(refusal(handle)) is AccessDenied


def test_an_unset_password(server: Server) -> None:
    with server.handle(password="env:NO_SUCH_VARIABLE_HERE") as handle:
        with pytest.raises(SettingsError, match="NO_SUCH_VARIABLE_HERE"):
            handle.frame("identity")
        (row,) = reachability.database(handle).to_dict("records")
    assert row["error"] == "the secret is empty or not set"
    assert pd.isna(row["answers"])


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"dbname": "no_such_database"}, WrongServer, "database does not exist"),
        ({"dbname": "postgres"}, AccessDenied, "rejected the login"),
        ({"user": "no_such_role"}, AccessDenied, ""),
        ({"host": "no-such-host.invalid"}, (Unreachable, TimedOut), ""),
        ({"sslmode": "require"}, WrongServer, "TLS"),
        ({"host": "127.0.0.1", "port": 1}, Unreachable, "refused"),
        ({"service": "no_such_service"}, Unreachable, "service is not defined"),
    ],
)
def test_wrong_settings(server: Server, changed: dict[str, Any], kind: Any, message: str) -> None:
    with server.handle(**changed) as handle:
        error = refusal(handle)
    assert isinstance(error, kind), error
    assert message in error.what


def test_pgpass(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text(f"127.0.0.1:{server.port}:*:xai_monitor:{server.layout.role('monitor').password()}\n")
    path.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(path))
    with server.handle(password=None) as handle:
        assert len(handle.frame("identity")) == 1


def test_service_file(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "services").write_text(f"[xai]\nhost=127.0.0.1\nport={server.port}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with server.handle(service="xai", host="nowhere.invalid", port=1) as handle:
        assert len(handle.frame("identity")) == 1
        assert handle.address == "service xai"


def test_all_slots_taken(server: Server) -> None:
    with ExitStack() as sessions, server.handle() as handle:
        with suppress(psycopg.OperationalError):
            for _ in range(SLOTS + 1):
                sessions.enter_context(server.session("app"))
        error = refusal(handle)
        assert type(error) is Unreachable
        assert "slots are taken" in error.what
        finding = reachability.check_reachable(reachability.database(handle), _limit())
    assert finding.status is Status.ALERT
    assert finding.summary.endswith("does not answer: all connection slots are taken")


def test_a_stopped_backend_times_out(server: Server) -> None:
    """P18: no server timeout or keepalive ends this wait; the next query uses a new connection."""
    server.wait_until_idle()
    with server.handle(timeout="500ms") as handle:
        handle.frame("identity")
        (pid,) = server.backends()
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(TimedOut):
                handle.frame("connections")
            assert time.monotonic() - started < stretched(4)
            assert len(handle.frame("connections")) == 1
        finally:
            os.kill(pid, signal.SIGCONT)
        assert len(handle.frame("connections")) == 1
        server.wait_until_idle(pid)  # the abandoned backend ends as soon as it can


def test_a_stopped_server_times_out(server: Server) -> None:
    """The kernel still accepts the connection, and no answer comes."""
    assert server.process is not None
    with server.handle(timeout="500ms") as handle:
        server.process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            assert type(refusal(handle)) is TimedOut
            assert time.monotonic() - started < stretched(4)
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert len(handle.frame("identity")) == 1


def test_a_lost_connection_is_replaced(server: Server) -> None:
    server.wait_until_idle()
    with server.handle() as handle:
        handle.frame("identity")
        with server.superuser() as superuser:
            (pid,) = server.backends()
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert len(handle.frame("identity")) == 1
        assert server.backends() != [pid]


def test_a_server_restart_between_two_queries(server: Server) -> None:
    with server.handle() as handle:
        before = handle.frame("identity")["started_at"].iloc[0]
        server.stop()
        assert type(refusal(handle)) is Unreachable
        server.start()
        assert handle.frame("identity")["started_at"].iloc[0] > before


def test_threads_share_a_connection(server: Server) -> None:
    counts: list[int] = []
    server.wait_until_idle()
    with server.handle() as handle:

        def ask(name: str) -> None:
            counts.extend(len(handle.frame(name)) for _ in range(20))

        threads = [threading.Thread(target=ask, args=(name,)) for name in ("identity", "connections") * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts == [1] * 80
        assert len(server.backends()) == 1


def test_secrets_are_read_again_for_each_connection(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hunter2")
    with server.handle(password=f"file:{path}") as handle:
        assert type(refusal(handle)) is AccessDenied
        path.write_text(server.layout.role("monitor").password())
        assert len(handle.frame("identity")) == 1
        assert handle._settings.password == Secret(f"file:{path}")


def _limit() -> Any:
    from xai_runbook.settings import loading

    return loading.load("sandbox").limits.database.database_reachable
