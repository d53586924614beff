"""Restores on a real server: into a new database, in place of the live one, and the undo."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import backed_up
from tests.support.backed_up import done, result_of, step_process, typed
from tests.support.postgres_server import Server, running
from xai_runbook import apply
from xai_runbook.changes.reconcile import reconcile, undo
from xai_runbook.environment import Environment
from xai_runbook.errors import BadAnswer, InputError, Refused
from xai_runbook.model.plans import Risk
from xai_runbook.operations.backups import dumps, restores
from xai_runbook.pgbackup.leftovers import MARK
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")
LIVE, BACKUP = "xai_blockchain", "xai_blockchain-000002"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("restores")) as found:
        backed_up.smaller(found)
        with found.superuser() as session:
            session.execute("ALTER DATABASE xai_blockchain SET work_mem = '7MB'")
            session.execute("ALTER DATABASE xai_blockchain SET search_path = public, pg_catalog")
        yield found


@pytest.fixture(scope="module")
def env(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The server, with a verified backup of its current content."""
    found = backed_up.environment(server, tmp_path_factory.mktemp("journal") / "journal")
    assert done(found, dumps.dump(found.database, found.backups)).status == "done"
    yield found
    found.database.close()


def databases(server: Server) -> set[str]:
    with server.superuser() as session:
        return {row[0] for row in session.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")}


def marked(server: Server) -> set[str]:
    """Return the databases that bear the mark of an unfinished restore."""
    with server.superuser() as session:
        query = "SELECT datname FROM pg_database WHERE shobj_description(oid, 'pg_database') = %s"
        return {row[0] for row in session.execute(query, [MARK])}


def drop(server: Server, *names: str) -> None:
    with server.superuser() as session:
        for name in names:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(autouse=True)
def only_the_live_one(server: Server) -> Iterator[None]:
    """Drop what a failed test has left."""
    yield
    drop(server, *(databases(server) - {"postgres", LIVE}))


def wallets(server: Server, database: str = LIVE) -> int:
    from xai_runbook.sandbox.components import postgres_template

    with postgres_template.connect(server.data, server.port, database) as session:
        (row,) = session.execute("SELECT count(*) FROM wallets").fetchall()
        return int(row[0])


def test_into_a_new_database_as_the_operator(server: Server, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = restores.restore(env.database, env.backups)
    assert plan.confirmation.startswith("restore 1 xai_blockchain_restored_1 ") and plan.risk is Risk.CHANGE
    assert BACKUP in plan.targets[0], "the newest usable one"
    assert "a superuser must add amcheck, pg_stat_statements" in plan.note, "the operator is not a superuser"
    lines: list[str] = []
    outcome = typed(env, plan, monkeypatch, lines.append)
    assert outcome.status == "done", outcome
    assert any(line.startswith("step 1 of 1: ") for line in lines), "the last of many lines is shown"
    assert "extension pg_stat_statements" in str(outcome.observed[0]["without"])
    new = "xai_blockchain_restored_1"
    try:
        assert wallets(server, new) == wallets(server) == 200
        with server.superuser() as session:
            rows = dict(
                session.execute(
                    "SELECT datname, (datacl::text, pg_get_userbyid(datdba))::text FROM pg_database"
                ).fetchall()
            )
            settings = session.execute(
                "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
                " WHERE datname = %s AND setrole = 0",
                [new],
            ).fetchall()
        assert rows[new] == rows[LIVE], "owner and privileges are those of the live database"
        assert settings == [(["work_mem=7MB", "search_path=public, pg_catalog"],)]
        with pytest.raises(InputError, match="already"):
            restores.restore(env.database, env.backups, into=new)
    finally:
        drop(server, new)


def test_a_killed_restore_has_not_created_the_database(server: Server, env: Environment) -> None:
    plan = restores.restore(env.database, env.backups, into="proof")
    with step_process(env, plan) as process:
        end = time.monotonic() + 60
        while "xai_restoring_proof" not in marked(server):  # one without the mark is somebody else's, and stays
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert "proof" not in databases(server)
    with step_process(env, plan) as process:  # the next run removes the leftover
        code, output = result_of(process)
    assert code == 0, output
    assert {"proof"} == databases(server) - {"postgres", LIVE}
    drop(server, "proof")


def test_sigterm_drops_the_unfinished_database(server: Server, env: Environment) -> None:
    with step_process(env, restores.restore(env.database, env.backups, into="proof")) as process:
        end = time.monotonic() + 60
        while "xai_restoring_proof" not in databases(server):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        code, output = result_of(process)
    assert code == 1, output
    assert databases(server) == {"postgres", LIVE}


def test_a_killed_restore_is_unknown(server: Server, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves an unfinished database, so it is not `failed`, which means no effect."""
    plan = restores.restore(env.database, env.backups, into="proof")

    def kill(line: str) -> None:
        if "xai_restoring_proof" in line:
            for pid in Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split():
                with suppress(OSError):
                    if b"xai_runbook.pgbackup\0restore" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(int(pid), signal.SIGKILL)

    outcome = typed(env, plan, monkeypatch, kill)
    assert outcome.status == "unknown", outcome
    assert "xai_restoring_proof" in databases(server)
    assert reconcile(env, outcome.entry).status == "failed", "the next run drops the leftover"
    drop(server, "xai_restoring_proof")


def test_a_restore_whose_session_was_lost_is_cleaned_up(
    server: Server, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = restores.restore(env.database, env.backups, into="proof")
    with step_process(env, plan) as process, server.superuser() as session:
        end = time.monotonic() + 60
        while "xai_restoring_proof" not in databases(server):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.01)
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'xai-runbook backup'"
        )
        code, output = result_of(process)
    assert code == 1 and "xai_restoring_proof" not in databases(server), f"dropped by another session: {output}"


def test_only_verified_backups_are_restored(server: Server, env: Environment) -> None:
    archive = env.backups.folder / BACKUP / "database.dump"
    times = archive.stat()
    archive.touch()
    try:
        for plan in (
            restores.restore(env.database, env.backups, name=BACKUP),
            restores.overwrite(env.database, env.backups, name=BACKUP),
        ):
            assert "is unverified" in plan.refused and not plan.steps
    finally:
        import os

        os.utime(archive, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "there is no backup" in restores.restore(env.database, env.backups, name="xai-000099").refused


def test_f20_a_database_without_extensions_is_restored(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.superuser() as session:
        session.execute("CREATE DATABASE plain OWNER xai_owner")
    own = backed_up.environment(server, tmp_path / "journal", dbname="plain", folder=str(tmp_path / "backups"))
    try:
        assert done(own, dumps.dump(own.database, own.backups)).status == "done"
        assert own.backups.named("plain-000001").manifest["extensions"] == []
        assert restores.overwrite(own.database, own.backups, name="plain-000001").steps
        assert typed(own, restores.restore(own.database, own.backups, into="r"), monkeypatch).status == "done"
    finally:
        own.database.close()


@pytest.mark.parametrize("name", ["x" * 39, "x" * 63, "x" + "ü" * 31])
def test_k17_names_derived_from_long_names_are_cut(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They are cut between characters; during a restore the name is even longer."""
    with server.superuser() as session:
        session.execute(f'CREATE DATABASE "{name}" OWNER xai_owner'.encode())
    own = backed_up.environment(server, tmp_path / "journal", dbname=name, folder=str(tmp_path / "backups"))
    try:
        outcome = done(own, dumps.dump(own.database, own.backups))
        assert outcome.status == "done", outcome
        plan = restores.overwrite(own.database, own.backups, name=own.backups.newest("dump"))
        assert typed(own, plan, monkeypatch).status == "done"
        own.database.close()
        found = own.database.rows("databases")
        kept = name.encode()[: 63 - len("_before_1")].decode(errors="ignore") + "_before_1"
        assert {name, kept} <= {row["database"] for row in found}
        assert restores.restore(own.database, own.backups).targets[0].split(",")[0].endswith("_restored_1")
    finally:
        own.database.close()


@pytest.mark.parametrize("name", ["", "a=b", "postgres://x", "x" * 50, "tab\tname"])
def test_invalid_names(env: Environment, name: str) -> None:
    if not name:
        assert restores.swap(env.database, restored=name).note == "no restored database was named"
        assert restores.overwrite(env.database, env.backups, name=name).note == "no backup was named"
        return
    with pytest.raises(InputError, match="cannot be a new database's name"):
        restores.restore(env.database, env.backups, into=name)


def test_a_swap_is_refused_with_other_sessions_and_can_be_undone(
    server: Server, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no other database"):
        restores.swap(env.database, restored="nothing")
    plan = restores.restore(env.database, env.backups, into="proof")
    assert typed(env, plan, monkeypatch).status == "done"
    with server.session() as session:
        session.execute("INSERT INTO wallets (address, created_at) VALUES ('XAI' || repeat('f', 40), now())")
        plan = restores.swap(env.database, restored="proof")
        with pytest.raises(Refused, match=r"no other sessions in xai_blockchain or proof .*xai_app \(test\)"):
            typed(env, plan, monkeypatch)
    wait_until_gone(env)
    with server.handle() as monitoring:  # such as an exporter, which is always connected
        assert monitoring.rows("identity")
        outcome = typed(env, restores.swap(env.database, restored="proof"), monkeypatch)
    assert outcome.status == "done", outcome
    try:
        assert wallets(server) == 200 and wallets(server, "xai_blockchain_before_1") == 201
        assert restores.database_named(env.database, name=LIVE)["restored_from"].iloc[0] == BACKUP
        wait_until_gone(env)
        undo_plan = undo(env, outcome.entry)
        assert undo_plan.verb == "swap" and undo_plan.steps
        assert typed(env, undo_plan, monkeypatch).status == "done"
        assert wallets(server) == 201 and wallets(server, "proof") == 200
    finally:
        drop(server, *(databases(server) - {"postgres", LIVE}))
        with server.session() as session:
            session.execute("DELETE FROM wallets WHERE address = 'XAI' || repeat('f', 40)")


def wait_until_gone(env: Environment) -> None:
    """Wait until the server has closed the sessions of disconnected clients."""
    end = time.monotonic() + 20
    while restores.other_sessions(env.database, names=[LIVE])["sessions_count"].iloc[0]:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_swap_with_another_session_changes_nothing(server: Server, env: Environment) -> None:
    """A session that begins after the guard was checked stops it, and both databases keep their names."""
    with server.superuser() as session:
        session.execute("CREATE DATABASE proof OWNER xai_owner")
    plan = restores.swap(env.database, restored="proof")
    before = databases(server)
    with server.session():
        with step_process(env, plan) as process:
            code, output = result_of(process)
        assert code == 1 and "other sessions are connected" in output
    assert databases(server) == before
    drop(server, "proof")


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[Environment]:
    """A database with every property that no dump contains, and an operator who is a superuser."""
    tablespace = server.data.parent / "tsp"
    tablespace.mkdir(exist_ok=True)
    with server.superuser() as session:
        session.execute("ALTER ROLE xai_operator SUPERUSER")
        session.execute(f"CREATE TABLESPACE tsp LOCATION '{tablespace}'")
        session.execute("GRANT CREATE ON TABLESPACE tsp TO xai_owner")
        create = "CREATE DATABASE rs OWNER xai_owner TEMPLATE template0 TABLESPACE tsp CONNECTION LIMIT 20"
        try:
            session.execute(f"{create} LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'")
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError):  # built without ICU, or before 15
            session.execute(create)
        for statement in (
            'ALTER ROLE xai_app IN DATABASE rs SET search_path = app, public, "Od\'d ""one"',
            "ALTER ROLE xai_app IN DATABASE rs SET statement_timeout = '30s'",
            "ALTER ROLE xai_owner IN DATABASE rs SET role = 'xai_app'",
            "ALTER DATABASE rs SET search_path = ''",
            "ALTER DATABASE rs SET my.own = 'a, \"b\"'",
            "ALTER DATABASE rs SET IntervalStyle = 'iso_8601'",
            "ALTER DATABASE rs SET default_transaction_read_only = on",
            "ALTER DATABASE rs SET log_min_duration_statement = 77",
            "ALTER DATABASE rs SET client_encoding = 'LATIN1'",
            "REVOKE TEMPORARY ON DATABASE rs FROM PUBLIC",
            "REVOKE CREATE ON DATABASE rs FROM xai_owner",
            "GRANT CONNECT ON DATABASE rs TO xai_app WITH GRANT OPTION",
            "COMMENT ON DATABASE rs IS 'the shop, restored from nothing'",
            "ALTER DATABASE rs IS_TEMPLATE true",
        ):
            session.execute(statement)
    from xai_runbook.sandbox.components import postgres_template

    with postgres_template.connect(server.data, server.port, "rs") as session:
        session.execute("SET default_transaction_read_only = off; SET ROLE NONE")
        session.execute("CREATE SCHEMA app AUTHORIZATION xai_owner; GRANT USAGE ON SCHEMA app TO xai_app")
        session.execute("CREATE TABLE app.t AS SELECT 1 AS n")
        session.execute("ALTER TABLE app.t OWNER TO xai_owner; GRANT SELECT ON app.t TO xai_app")
    found = backed_up.environment(server, tmp_path / "journal", dbname="rs", folder=str(tmp_path / "backups"))
    yield found
    found.database.close()
    with server.superuser() as session:
        for (name,) in session.execute("SELECT datname FROM pg_database WHERE datname ~ '(^|_)rs'").fetchall():
            session.execute(f'ALTER DATABASE "{name}" IS_TEMPLATE false'.encode())
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
        session.execute("DROP TABLESPACE tsp")
        session.execute("ALTER ROLE xai_operator NOSUPERUSER")


def properties(server: Server, database: str) -> dict[str, Any]:
    """Return the properties that no dump contains, with the first line of the comment."""
    with server.superuser() as session:
        (row,) = session.execute(
            "SELECT to_jsonb(d) - '{oid,datname,datfrozenxid,datminmxid,datlastsysoid}'::text[],"
            " split_part(shobj_description(oid, 'pg_database'), E'\\n', 1) FROM pg_database d WHERE datname = %s",
            [database],
        ).fetchall()
        settings = session.execute(
            "SELECT s.setrole::regrole::text, s.setconfig FROM pg_db_role_setting s"
            " JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s ORDER BY 1",
            [database],
        ).fetchall()
    return {**row[0], "datacl": sorted(row[0]["datacl"] or []), "comment": row[1], "settings": settings}


def seen_by_app(server: Server) -> list[Any]:
    role = server.layout.role("app")
    with psycopg.connect(
        host="127.0.0.1", port=server.port, dbname="rs", user=role.name, password=role.password()
    ) as session:
        rows = session.execute("SELECT n, current_setting('statement_timeout') FROM t").fetchall()
    return rows


def test_f7_database_properties_stay_with_the_name(
    server: Server, shop: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = properties(server, "rs")
    assert seen_by_app(server) == [(1, "30s")] and before["datconnlimit"] == 20 and before["datistemplate"]
    assert done(shop, dumps.dump(shop.database, shop.backups)).status == "done"
    plan = restores.restore(shop.database, shop.backups, into="rs_r")
    assert "not carried over" not in plan.note
    outcome = typed(shop, plan, monkeypatch)
    assert outcome.status == "done" and "differs" not in outcome.summary, outcome
    assert properties(server, "rs_r") == before
    # later changes of the live database are carried over too
    with server.superuser() as session:
        session.execute("ALTER ROLE xai_app IN DATABASE rs RESET search_path")
        session.execute("ALTER ROLE xai_app IN DATABASE rs SET search_path = app")
        session.execute("ALTER DATABASE rs RESET my.own")
        session.execute("ALTER DATABASE rs CONNECTION LIMIT 21")
        session.execute("GRANT TEMPORARY ON DATABASE rs TO xai_app")
    before = properties(server, "rs")
    swapping = typed(shop, restores.swap(shop.database, restored="rs_r"), monkeypatch)
    assert swapping.status == "done", swapping
    assert properties(server, "rs") == before and seen_by_app(server) == [(1, "30s")]
    assert restores.database_named(shop.database, name="rs")["restored_from"].iloc[0] == "rs-000001"
    # and once more, from the restored database
    assert typed(
        shop, restores.overwrite(shop.database, shop.backups, name="rs-000001"), monkeypatch
    ).status == "done"  # fmt: skip
    assert properties(server, "rs") == before and seen_by_app(server) == [(1, "30s")]


def test_f7_the_plan_names_what_cannot_be_carried_over(
    server: Server, shop: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert done(shop, dumps.dump(shop.database, shop.backups)).status == "done"
    with server.superuser() as session:
        session.execute("ALTER ROLE xai_operator NOSUPERUSER")
        session.execute("REVOKE CREATE ON TABLESPACE tsp FROM xai_owner")
        before = properties(server, "rs")
    plan = restores.restore(shop.database, shop.backups, into="rs_r")
    named = plan.note.partition("not carried over from rs: ")[2]
    for what in (
        "setting search_path of role xai_app", "setting statement_timeout of role xai_app", "setting my.own,",
        "setting log_min_duration_statement,", "tablespace tsp, in which xai_operator may not create",
    ):  # fmt: skip
        assert what in named, named
    for what in ("IntervalStyle", "setting search_path,"):
        assert what not in named
    outcome = typed(shop, plan, monkeypatch)
    assert outcome.status == "done", outcome
    after = properties(server, "rs_r")
    different = {key for key in before if before[key] != after[key]}
    assert different == {"dattablespace", "settings"}
    assert "tablespace pg_default instead of tsp" in restores.swap(shop.database, restored="rs_r").note


def test_an_overwrite_is_confirmed_and_keeps_the_old_database(
    server: Server, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.session() as session:
        session.execute("DELETE FROM wallets WHERE ctid IN (SELECT ctid FROM wallets LIMIT 150)")
    wait_until_gone(env)
    plan = restores.overwrite(env.database, env.backups, name=BACKUP)
    assert plan.confirmation.startswith("overwrite 1 xai_blockchain ") and plan.risk is Risk.DESTRUCTIVE
    with backed_up.a_person(monkeypatch), pytest.raises(Refused, match="the confirmation does not match"):
        apply(plan, env, confirm=plan.confirmation.replace("overwrite", "restore"))
    outcome = typed(env, plan, monkeypatch)
    assert outcome.status == "done", outcome
    assert wallets(server) == 200 and wallets(server, "xai_blockchain_before_1") == 50
    assert databases(server) == {"postgres", LIVE, "xai_blockchain_before_1"}
    drop(server, "xai_blockchain_before_1")


def test_a_damaged_backup_is_refused_before_anything_is_created(
    server: Server, env: Environment, tmp_path: Path
) -> None:
    """Checksums are compared before anything is created, and find a bit that flipped since verification."""
    from tests.operations.backups.test_dumps import flip_bit

    archive = env.backups.folder / BACKUP / "database.dump"
    plan = restores.restore(env.database, env.backups, name=BACKUP, into="proof")
    flip_bit(archive, 2000)
    try:
        with step_process(env, plan) as process:
            code, output = result_of(process)
        assert code == 1 and "SHA-256 differs" in output
        assert databases(server) == {"postgres", LIVE}
    finally:
        flip_bit(archive, 2000)
    with pytest.raises(BadAnswer):
        env.backups.named("../xai_blockchain-000001")
