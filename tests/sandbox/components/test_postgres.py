"""The sandbox's database: its roles have exactly the rights they need, and its rows are consistent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.started import started
from xai_runbook.sandbox.components import postgres, postgres_template, programs
from xai_runbook.sandbox.supervisor.component import (
    START_HEIGHT,
    Layout,
    accepts_connections,
    environment,
    free_ports,
    seed_hash,
)
from xai_runbook.system import sandbox_state

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="PostgreSQL not found")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Yield the layout of a running database without the rest of a sandbox."""
    layout = Layout(tmp_path_factory.mktemp("run"), sandbox_state.cache_folder(), free_ports(["postgres"]))
    (part,) = postgres.parts(layout)
    with started(layout, [part]):
        assert part.finish is not None
        part.finish()
        yield layout


def session(layout: Layout, role_name: str, **overrides: Any) -> psycopg.Connection[tuple[Any, ...]]:
    role = layout.role(role_name)
    return psycopg.connect(
        **{
            "host": layout.host,
            "port": layout.ports["postgres"],
            "dbname": layout.database,
            "user": role.name,
            "password": role.password(),
            "connect_timeout": 5,
            "autocommit": True,
        }
        | overrides
    )


def scalar(layout: Layout, role_name: str, query: Any) -> Any:
    with session(layout, role_name) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def superuser(layout: Layout) -> Any:
    return postgres_template.connect(layout.folder / "postgres" / "data", layout.ports["postgres"], layout.database)


def test_each_role_logs_in_with_its_own_password_only(layout: Layout) -> None:
    passwords = {layout.role(role_name).password() for role_name in postgres.ROLES}
    assert len(passwords) == len(postgres.ROLES)
    for role_name in postgres.ROLES:
        assert scalar(layout, role_name, "SELECT current_user") == f"xai_{role_name}"
        assert layout.role(role_name).password_file.stat().st_mode & 0o777 == 0o600
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            session(layout, role_name, password="wrong")


def test_the_superuser_is_refused_by_tcp(layout: Layout) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
        session(layout, "owner", user=postgres_template.SUPERUSER)
    with superuser(layout) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)
        others = connection.execute("SELECT count(*) FROM pg_roles WHERE rolsuper").fetchone()
    assert others == (1,)


def test_passwords_are_stored_as_verifiers_and_never_logged(layout: Layout) -> None:
    with superuser(layout) as connection:
        verifiers = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'xai\\_%'").fetchall()
        logged = str(connection.execute("SELECT query FROM pg_stat_statements").fetchall())
    assert all(each[0] is None or each[0].startswith("SCRAM-SHA-256$4096:") for each in verifiers)
    logged += layout.log_file("postgres").read_text()
    assert not [role_name for role_name in postgres.ROLES if layout.role(role_name).password() in logged]


WRITES = (
    "CREATE TABLE intruder (n int)",
    "CREATE TEMP TABLE intruder (n int)",
    "CREATE SCHEMA intruder",
    "CREATE FUNCTION public.intruder() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "INSERT INTO wallets (address, created_at) VALUES ('XAI' || repeat('0', 40), now())",
    "UPDATE blocks SET difficulty = 1",
    "DELETE FROM utxos",
    "TRUNCATE transactions",
    "DROP TABLE blocks CASCADE",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "COPY blocks TO '/tmp/stolen'",
    "SELECT pg_stat_statements_reset()",
    "SELECT pg_reload_conf()",
    "CREATE ROLE intruder",
    "SET ROLE xai_owner",
)


@pytest.mark.parametrize("statement", WRITES)
def test_the_monitor_cannot_write_even_without_read_only(layout: Layout, statement: str) -> None:
    with session(layout, "monitor") as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_the_monitor_cannot_vacuum_or_terminate(layout: Layout) -> None:
    vacuums = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'blocks'"
    with session(layout, "monitor") as monitor, session(layout, "app") as victim:
        before = scalar(layout, "app", vacuums)
        monitor.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            monitor.execute("SELECT pg_terminate_backend(%s)", [victim.info.backend_pid])
        monitor.execute("VACUUM blocks")  # a warning without effect
        assert victim.execute("SELECT 1").fetchone() == (1,)
    time.sleep(1.2)  # a session reports its counters when it ends, or a second later
    assert scalar(layout, "app", vacuums) == before


def test_the_monitor_sees_statistics_but_no_row(layout: Layout) -> None:
    with session(layout, "monitor") as monitor, session(layout, "app") as other:
        other.execute("SELECT 42 AS the_answer")
        query = monitor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [other.info.backend_pid])
        assert query.fetchone() == ("SELECT 42 AS the_answer",)
        assert monitor.execute("SELECT count(*) > 5 FROM pg_stat_statements WHERE calls > 100").fetchone() == (True,)
        assert monitor.execute("SELECT pg_total_relation_size('blocks') > 0").fetchone() == (True,)
        for table in ("blocks", "transactions", "utxos", "wallets"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                monitor.execute(psycopg.sql.SQL("SELECT 1 FROM {}").format(psycopg.sql.Identifier(table)))


def test_the_operator_ends_sessions_and_maintains_tables(layout: Layout) -> None:
    with session(layout, "operator") as operator, session(layout, "app") as victim:
        assert operator.execute("SELECT pg_terminate_backend(%s, 5000)", [victim.info.backend_pid]).fetchone() == (
            True,
        )
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT 1")
        operator.execute("VACUUM (ANALYZE) wallets")
        operator.execute("REINDEX TABLE CONCURRENTLY wallets")
        vacuumed = operator.execute("SELECT last_vacuum IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'wallets'")
        assert vacuumed.fetchone() == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            operator.execute("ALTER SYSTEM SET work_mem = '1GB'")


def test_the_application_writes_rows_but_not_the_schema(layout: Layout) -> None:
    with session(layout, "app") as app:
        with app.transaction(force_rollback=True):
            app.execute("INSERT INTO wallets (address, created_at) VALUES ('XAI' || repeat('0', 40), now())")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("DROP TABLE utxos")


def test_the_seeded_chain_is_consistent_and_ends_at_start_height(layout: Layout) -> None:
    with session(layout, "app") as app:

        def row(query: Any) -> Any:
            found = app.execute(query).fetchone()
            assert found is not None
            return found

        assert row("SELECT height, hash FROM blocks ORDER BY height DESC LIMIT 1") == (
            START_HEIGHT,
            seed_hash(START_HEIGHT),
        )
        assert row("SELECT max(height) - min(height) + 1 = count(*) FROM blocks") == (True,)
        assert row("SELECT count(*) FROM blocks b JOIN blocks p ON p.height = b.height - 1 "
                   "WHERE b.previous_hash <> p.hash OR b.mined_at <= p.mined_at") == (0,)  # fmt: skip
        assert row("SELECT count(*) FROM blocks b WHERE transaction_count <> "
                   "(SELECT count(*) FROM transactions t WHERE t.block_height = b.height)") == (0,)  # fmt: skip
        assert row("SELECT count(*) FROM wallets w WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM utxos u "
                   "WHERE u.address = w.address AND spent_by IS NULL)") == (0,)  # fmt: skip
        rows = row("SELECT (SELECT count(*) FROM blocks), (SELECT count(*) FROM transactions), (SELECT count(*) FROM "
                   "utxos WHERE spent_by IS NOT NULL), (SELECT count(*) FROM wallets)")  # fmt: skip
        assert rows[0] == 7200
        assert rows[1] > 15_000
        assert rows[2] > 1_000
        assert rows[3] == 1500
        assert row("SELECT max(mined_at) > now() - interval '6 hours 5 minutes' FROM blocks") == (True,)


def test_the_settings_overlay_names_this_server(layout: Layout) -> None:
    settings = postgres.overlay(layout)
    with psycopg.connect(
        host=settings["host"],
        port=settings["port"],
        dbname=settings["dbname"],
        user=settings["user"],
        password=Path(settings["password"].removeprefix("file:")).read_text().strip(),
    ) as connection:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    assert row == (settings["system_identifier"],)
    assert scalar(layout, "monitor", "SHOW max_connections") == "60"


def test_overlay_without_a_server_program_has_no_system_identifier(tmp_path: Path) -> None:
    settings = postgres.overlay(Layout(tmp_path, tmp_path, free_ports(["postgres"])))
    assert "system_identifier" not in settings
    assert not accepts_connections(settings["port"])


def test_concurrent_copies_share_one_template(tmp_path: Path) -> None:
    server = programs.find("postgres")
    assert server is not None
    copies = [tmp_path / "one", tmp_path / "two"]
    makers = [
        threading.Thread(target=postgres_template.copy_template, args=(server, copy, tmp_path)) for copy in copies
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(90)
    assert [(copy / "PG_VERSION").exists() for copy in copies] == [True, True]
    kept = [path.name for path in (tmp_path / "clusters").iterdir() if path.name != "lock"]
    assert len(kept) == 1
    assert (copies[0] / "global" / "pg_control").read_bytes() == (copies[1] / "global" / "pg_control").read_bytes()

    aged = tmp_path / "clusters" / f"{kept[0].partition('-')[0]}-{1_000_000_000}"
    (tmp_path / "clusters" / kept[0]).rename(aged)
    postgres_template.copy_template(server, tmp_path / "three", tmp_path)
    assert not aged.exists(), "an old template is replaced"
    assert (tmp_path / "three" / "PG_VERSION").exists()


def test_the_server_gets_verifiers_and_no_passwords(layout: Layout) -> None:
    data = layout.folder / "postgres" / "data"
    with postgres_template.connect(data, layout.ports["postgres"], layout.database) as connection:
        connection.execute("SET log_statement = 'all'")
        postgres.set_passwords(connection, layout)
    log = layout.log_file("postgres").read_text()
    assert log.count("PASSWORD 'SCRAM-SHA-256$") == len(postgres.ROLES)
    assert not [short for short in postgres.ROLES if layout.role(short).password() in log]


def test_parts_do_not_inherit_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "known")
    monkeypatch.setenv("PGPASSWORD", "known")
    assert "known" not in environment(tmp_path).values()
