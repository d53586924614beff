"""Dumps of a real server: made during writes, verified by a restore, and refused however they were damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import backed_up
from tests.support.backed_up import done, result_of, step_process, typed
from tests.support.postgres_server import Server, running
from tests.support.postgres_tools import replaced_tools
from xai_runbook import charts
from xai_runbook.changes.apply import apply_headless
from xai_runbook.environment import Environment
from xai_runbook.errors import BadAnswer, InputError, NoData, Refused, Unreachable
from xai_runbook.model.findings import Status
from xai_runbook.operations.backups import dumps, retention
from xai_runbook.pgbackup import catalog, private_cluster
from xai_runbook.pgbackup.__main__ import main
from xai_runbook.pgbackup.dump import dump as make_dump
from xai_runbook.pgbackup.fingerprint import connect, contents, differences
from xai_runbook.pgbackup.pg_restore import ARCHIVE, read_back
from xai_runbook.pgbackup.verify import BackupDamaged, check_files, verify
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.components.backups import FIRST
from xai_runbook.sandbox.components.postgres_template import SUPERUSER

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("backups")) as found:
        backed_up.smaller(found)
        yield found


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one verified backup of that server."""
    where = tmp_path_factory.mktemp("made")
    env = backed_up.environment(server, where / "journal", folder=str(where / "backups"))
    assert done(env, dumps.dump(env.database, env.backups)).status == "done"
    env.database.close()
    return where / "backups"


@pytest.fixture
def env(server: Server, made: Path, tmp_path: Path) -> Iterator[Environment]:
    """The server, with a copy of that folder for one test."""
    folder = tmp_path / "backups"
    shutil.copytree(made, folder, copy_function=shutil.copy2)
    found = backed_up.environment(server, tmp_path / "journal", folder=str(folder))
    yield found
    found.database.close()


def first(env: Environment) -> Path:
    return env.backups.folder / FIRST


def row_of(env: Environment, name: str) -> Any:
    return dumps.stored(env.backups).set_index("name").loc[name]


# --- dumps --------------------------------------------------------------------------------------------------------


def test_a_dump_is_restored_and_compared_while_others_write(server: Server, env: Environment) -> None:
    ended = threading.Event()

    def write() -> None:
        with server.session() as session:
            while not ended.is_set():
                session.execute(
                    "INSERT INTO wallets (address, created_at) SELECT 'XAI' || lpad(to_hex(%s), 40, '0'), now()",
                    [time.monotonic_ns()],
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        plan = dumps.dump(env.database, env.backups)
        outcome = done(env, plan)
    finally:
        ended.set()
        writer.join()
    assert outcome.status == "done", outcome
    name = "xai_blockchain-000002"
    assert name in plan.targets[0] and plan.risk == "additive"
    row = row_of(env, name)
    assert row["state"] == "verified" and row["usable"] and row["restore_seconds"] > 0
    manifest = env.backups.named(name).manifest
    rows = {table: int(content["rows"]) for table, content in manifest["contents"]["tables"].items()}
    assert rows["public.wallets"] >= 200 and row["rows"] == sum(rows.values())
    assert manifest["contents"]["objects"]["tables"] == 4
    assert {path.stat().st_mode & 0o077 for path in (env.backups.folder / name).iterdir()} == {0}
    assert "CREATE ROLE xai_app" in (env.backups.folder / name / "roles.sql").read_text()
    assert not catalog.leftovers(env.backups.folder)

    # no file contains a password
    password = server.layout.role("operator").password()
    files = [path for path in env.backups.folder.parent.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not [path for path in files if password.encode() in path.read_bytes()]
    assert password not in json.dumps(plan.to_json())
    assert "(with the credentials of database.operator, backups.scratch)" in str(plan)


def test_the_directory_format_with_jobs(server: Server, tmp_path: Path) -> None:
    env = backed_up.environment(
        server, tmp_path / "journal", folder=str(tmp_path / "new" / "backups"), format="directory", jobs=2
    )
    assert dumps.check_age(dumps.stored(env.backups), env.limits.backups.backup_age).status is Status.ALERT
    assert "at all" in dumps.check_age(dumps.stored(env.backups), env.limits.backups.backup_age).summary
    assert done(env, dumps.dump(env.database, env.backups)).status == "done"
    backup = env.backups.named("xai_blockchain-000001")
    assert backup.state == "verified" and f"{ARCHIVE}/toc.dat" in backup.manifest["files"]
    # damage one of its files without changing size and time
    (data, *_) = sorted(backup.path.glob(f"{ARCHIVE}/*.gz"), key=lambda path: -path.stat().st_size)
    flip_bit(data, data.stat().st_size // 2)
    with pytest.raises(BackupDamaged, match="not what was written"):
        check_files(backup, lambda _: None)
    env.database.close()


def test_an_unattended_dump_needs_permission_in_the_settings(server: Server, env: Environment, tmp_path: Path) -> None:
    settings = env.settings.model_dump() | {"changes": {"headless": []}}
    forbidden = Environment(type(env.settings).model_validate(settings))
    plan = dumps.dump(forbidden.database, forbidden.backups)
    with pytest.raises(Refused, match="do not allow this change"):
        apply_headless(plan, forbidden, digest=plan.digest)
    forbidden.database.close()
    assert [path.name for path in env.backups.folder.iterdir() if path.is_dir()] == [FIRST]


def test_the_folder_is_locked_during_a_run(env: Environment) -> None:
    with catalog.locked_folder(env.backups.folder):
        outcome = done(env, dumps.dump(env.database, env.backups))
    assert outcome.status == "failed" and "another run is using this folder of backups" in outcome.summary


def test_a_plan_is_refused_once_its_name_is_taken(env: Environment) -> None:
    plan = dumps.dump(env.database, env.backups)
    shutil.copytree(first(env), env.backups.folder / "xai_blockchain-000002", copy_function=shutil.copy2)
    with pytest.raises(Refused, match="the system has changed"):
        apply_headless(plan, env, digest=plan.digest)


def test_too_little_disk_space_is_refused(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dumps.dump(env.database, env.backups)
    (row,) = dumps.dump_space(env.database, env.backups).to_dict("records")
    assert row["available_bytes"] - row["needed_bytes"] == row["spare_bytes"] > 0
    monkeypatch.setattr(type(env.backups), "available_bytes", lambda self: 2**20)  # a disk that is nearly full
    with pytest.raises(Refused, match="disk space for the dump"):
        apply_headless(plan, env, digest=plan.digest)


# --- interrupted --------------------------------------------------------------------------------------------------


def test_a_killed_pg_dump_leaves_nothing(server: Server, env: Environment) -> None:
    plan = dumps.dump(env.database, env.backups)
    with server.superuser() as session, session.transaction():
        session.execute("LOCK TABLE utxos IN ACCESS EXCLUSIVE MODE")  # it waits here
        with step_process(env, plan) as process:
            os.kill(wait_for_child(process.pid, "pg_dump"), signal.SIGKILL)
            # counting waits for the same lock, and notices only afterwards
            code, output = result_of(process)
    assert code == 1 and ("pg_dump was killed by signal 9" in output or "lock timeout" in output)
    assert [path.name for path in env.backups.folder.iterdir() if path.is_dir()] == [FIRST]


def test_a_killed_run_leaves_a_folder_that_the_next_run_removes(
    server: Server, env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = dumps.dump(env.database, env.backups)
    part = "xai_blockchain-000002.part"
    with server.superuser() as session, session.transaction():
        session.execute("LOCK TABLE utxos IN ACCESS EXCLUSIVE MODE")
        with step_process(env, plan) as process:
            other = wait_for_child(process.pid, "pg_dump")
            process.kill()
            process.wait()
            wait_until_gone(other)
        assert_no_backup_sessions(session)
    assert row_of(env, part)["state"] == "unfinished" and not row_of(env, part)["usable"]
    assert dumps.stored(env.backups)["usable"].sum() == 1
    assert main(["prune", "--server", "71", "--folder", str(env.backups.folder), f"{FIRST}=x"]) == 4
    assert "removing xai_blockchain-000002.part, left by an interrupted run" in capsys.readouterr().out
    assert not catalog.leftovers(env.backups.folder)


def test_sigterm_removes_the_unfinished_dump(server: Server, env: Environment) -> None:
    with server.superuser() as session, session.transaction():
        session.execute("LOCK TABLE utxos IN ACCESS EXCLUSIVE MODE")
        with step_process(env, dumps.dump(env.database, env.backups)) as process:
            other = wait_for_child(process.pid, "pg_dump")
            os.killpg(process.pid, signal.SIGTERM)
            code, _ = result_of(process)
            assert code == 1
            wait_until_gone(other)
        assert_no_backup_sessions(session)
    assert [path.name for path in env.backups.folder.iterdir() if path.is_dir()] == [FIRST]


def test_a_full_disk(env: Environment) -> None:
    with step_process(env, dumps.dump(env.database, env.backups), "prlimit", "--fsize=8000") as process:
        code, output = result_of(process)
    assert code == 1 and "pg_dump" in output
    assert [path.name for path in env.backups.folder.iterdir() if path.is_dir()] == [FIRST]


def assert_no_backup_sessions(session: Any) -> None:
    """Assert that the server does not go on reading tables for a run that has ended, which may take hours."""
    end = time.monotonic() + 8  # its lock_timeout would end it too, after 10 s
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xai-runbook backup'"
    while session.execute(query).fetchone()[0]:
        assert time.monotonic() < end, "a session is still running"
        time.sleep(0.1)
        session.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction the view does not change otherwise


def wait_for_child(pid: int, name: str) -> int:
    """Return the pid of the child program of that name, once it runs with a snapshot."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in children:
            with suppress(OSError):
                command = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
                if command[0].endswith(name.encode()) and b"--snapshot" in command:
                    return int(each)
        time.sleep(0.02)
    raise AssertionError(f"{name} was not started")


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < end, "it outlived its parent"
        time.sleep(0.02)


# --- programs and scratch servers ---------------------------------------------------------------------------------


def test_a_pg_dump_older_than_the_server_is_refused(server: Server, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 11.22'\n")
    (old / "pg_dump").chmod(0o700)
    env = backed_up.environment(server, tmp_path / "journal", programs=str(old))
    plan = dumps.dump(env.database, env.backups)
    assert "of PostgreSQL 11, older than the server's" in plan.refused and not plan.steps
    env = backed_up.environment(server, tmp_path / "journal", programs=str(tmp_path / "none"))
    assert "no pg_dump of PostgreSQL" in dumps.dump(env.database, env.backups).refused


def test_without_a_scratch_server_a_dump_is_not_usable(server: Server, env: Environment) -> None:
    nowhere = with_scratch(env, {"host": "127.0.0.1", "port": 9, "user": "nobody", "sslmode": "disable"})
    outcome = done(nowhere, dumps.dump(nowhere.database, nowhere.backups))
    assert outcome.status == "failed"
    assert "exists but is not usable, because its verification failed" in outcome.summary
    row = row_of(nowhere, "xai_blockchain-000002")
    assert row["state"] == "unverified" and not row["usable"]
    assert row_of(env, FIRST)["usable"], "the older one still is"
    nowhere.database.close()


def test_the_server_itself_is_refused_as_scratch_server(server: Server, env: Environment) -> None:
    operator = server.layout.role("operator")
    itself = {"host": "127.0.0.1", "port": server.port, "user": operator.name, "sslmode": "disable"}
    same = with_scratch(env, itself | {"password": f"file:{operator.password_file}"})
    outcome = done(same, dumps.verify(same.backups, name=FIRST))
    assert outcome.status == "failed" and "is the one that the backup is of" in outcome.summary
    assert row_of(env, FIRST)["usable"], "its state is unchanged"


def test_verify_on_a_scratch_server(env: Environment, tmp_path: Path) -> None:
    data, log, tools = tmp_path / "other", tmp_path / "log", env.backups.programs(1)
    private_cluster.create(tools, data, encoding="UTF8", log=log)
    with private_cluster.started(tools, data, log=log) as host:
        there = with_scratch(env, {"host": host, "user": private_cluster.OWNER, "sslmode": "disable"})
        outcome = done(there, dumps.verify(there.backups, name=FIRST))
        assert outcome.status == "done", outcome
        assert "scratch server" in env.backups.named(FIRST).verification["where"]
        with connect(host=host, user=private_cluster.OWNER, dbname="postgres") as session:
            names = {row[0] for row in session.execute("SELECT datname FROM pg_database")}
        assert names == {"postgres", "template0", "template1"}


def test_p17_a_leftover_of_another_role_on_the_scratch_server_is_ignored(
    server: Server, env: Environment, tmp_path: Path
) -> None:
    """A restored subscription, which prevents DROP DATABASE, is removed there too."""
    data, log, tools = tmp_path / "other", tmp_path / "log", env.backups.programs(1)
    private_cluster.create(tools, data, encoding="UTF8", log=log)
    with (
        private_cluster.started(tools, data, log=log) as host,
        connect(host=host, user=private_cluster.OWNER, dbname="postgres") as session,
    ):
        session.execute("CREATE ROLE tries LOGIN CREATEDB")
        session.execute("CREATE DATABASE xai_scratch_1")
        session.execute("COMMENT ON DATABASE xai_scratch_1 IS 'xai-runbook fills this database'")
        there = with_scratch(env, {"host": host, "user": "tries", "sslmode": "disable"})
        outcome = done(there, dumps.verify(there.backups, name=FIRST))
        assert outcome.status == "done", outcome
        assert names(session) == {"postgres", "template0", "template1", "xai_scratch_1"}
        with server.superuser() as own:
            own.execute("ALTER ROLE xai_operator SUPERUSER")
            own.execute("CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p WITH (connect = false)")
            try:
                there = with_scratch(env, {"host": host, "user": private_cluster.OWNER, "sslmode": "disable"})
                outcome = done(there, dumps.dump(there.database, there.backups))
            finally:
                own.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
                own.execute("DROP SUBSCRIPTION s")
                own.execute("ALTER ROLE xai_operator NOSUPERUSER")
        assert outcome.status == "done", outcome
        assert names(session) == {"postgres", "template0", "template1"}, "the owner's run removed the leftover too"


def names(session: Any) -> set[str]:
    return {row[0] for row in session.execute("SELECT datname FROM pg_database")}


def with_scratch(env: Environment, scratch: dict[str, Any]) -> Environment:
    settings = env.settings.model_dump()
    return Environment(
        type(env.settings).model_validate({**settings, "backups": settings["backups"] | {"scratch": scratch}})
    )


def test_a_full_disk_during_verification_is_not_blamed_on_the_backup(env: Environment, tmp_path: Path) -> None:
    for number, lines in enumerate(
        ("kill -9 $$", "echo 'pg_restore: error: could not write: No space left on device' >&2; exit 1")
    ):
        tools = replaced_tools(
            env.backups.programs(1),
            tmp_path / f"tools-{number}",
            pg_restore=f"[ $1 = --version ] && echo '(PostgreSQL) 99' && exit\n{lines}",
        )
        with pytest.raises(NoData, match="failed, not the backup"):
            verify(env.backups.folder, FIRST, programs=str(tools), jobs=1, say=lambda _: None)
        assert row_of(env, FIRST)["usable"], "its state is unchanged"


def test_a_server_that_ends_idle_sessions_does_not_end_a_backup(server: Server, env: Environment) -> None:
    """A restore waits for pg_restore in an idle session, a dump for pg_dump in an open transaction."""
    with server.superuser() as session:
        names = [name for name in ("idle_session_timeout", "transaction_timeout") if setting(session, name)]
        for name in names:
            session.execute(f"ALTER SYSTEM SET {name} = '300ms'".encode())
        session.execute("SELECT pg_reload_conf()")
    try:
        assert done(env, dumps.dump(env.database, env.backups)).status == "done"
    finally:
        with server.superuser() as session:
            session.execute("SET idle_session_timeout = 0")
            for name in names:
                session.execute(f"ALTER SYSTEM RESET {name}".encode())
            session.execute("SELECT pg_reload_conf()")


def setting(session: Any, name: str) -> bool:
    return bool(session.execute("SELECT 1 FROM pg_settings WHERE name = %s", [name]).fetchone())


# --- damaged ------------------------------------------------------------------------------------------------------


def flip_bit(path: Path, byte: int, bit: int = 3) -> None:
    """Flip one bit of the file without changing its size and time."""
    times = path.stat()
    with open(path, "r+b") as file:
        file.seek(byte)
        (value,) = file.read(1)
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_truncated_backup_is_found_by_its_size(env: Environment) -> None:
    limits = env.limits
    os.truncate(first(env) / ARCHIVE, 20)  # as large as the runbook's empty gzip
    stored = dumps.stored(env.backups)
    damaged = dumps.check_intact(stored, limits.backups.backups_intact)
    assert damaged.status is Status.ALERT and "has 20 bytes instead of" in damaged.summary
    age = dumps.check_age(stored, limits.backups.backup_age)
    assert age.status is Status.ALERT and FIRST in age.summary
    assert dumps.check_restore(stored, limits.backups.restore_time).status is Status.UNKNOWN
    assert done(env, dumps.verify(env.backups, name=FIRST)).status == "failed"


def test_a_flipped_bit_is_found_by_verify(env: Environment) -> None:
    archive = first(env) / ARCHIVE
    flip_bit(archive, archive.stat().st_size // 2)
    assert row_of(env, FIRST)["state"] == "verified", "sizes and times do not show it"
    outcome = done(env, dumps.verify(env.backups))
    assert outcome.status == "failed" and "SHA-256 differs" in outcome.summary
    row = row_of(env, FIRST)
    assert row["state"] == "damaged" and not row["usable"] and "SHA-256" in row["why"]


def test_a_modified_or_missing_file(env: Environment) -> None:
    (first(env) / ARCHIVE).touch()
    assert row_of(env, FIRST)["why"] == f"{ARCHIVE} was written after it was verified"
    (first(env) / ARCHIVE).unlink()
    assert row_of(env, FIRST)["why"] == f"{ARCHIVE} is missing"


def test_a_changed_manifest(env: Environment) -> None:
    manifest = first(env) / catalog.MANIFEST
    content = json.loads(manifest.read_bytes())
    content["contents"]["tables"]["public.wallets"]["rows"] = "7"
    manifest.write_text(json.dumps(content))
    assert row_of(env, FIRST)["why"] == "its manifest was changed after it was verified"
    outcome = done(env, dumps.verify(env.backups))
    assert re.search(r"table public.wallets has \d+ rows instead of 7", outcome.summary)
    assert row_of(env, FIRST)["state"] == "damaged"
    manifest.write_text("{")
    row = row_of(env, FIRST)
    assert row["state"] == "damaged"
    # the hints name a removal by hand, because prune refuses this backup
    by_hand = f"its manifest is not valid: it is not JSON; remove {first(env)} by hand"
    assert row["why"] == by_hand
    stored = dumps.stored(env.backups)
    assert by_hand in dumps.check_intact(stored, env.limits.backups.backups_intact).summary
    assert by_hand in dumps.check_age(stored, env.limits.backups.backup_age).summary
    description = dumps.backup_state(env.backups, name=FIRST)["description"].iloc[0]
    assert f"rm -r {first(env)}" in description and "backups.prune" not in description
    with pytest.raises(InputError, match="by hand"):
        retention.prune(env.backups, names=[FIRST])


def test_a_truncated_archive_with_a_matching_checksum(env: Environment) -> None:
    """Such as after a full disk, if the checksum was made afterwards: pg_restore --list would accept it."""
    archive, manifest = first(env) / ARCHIVE, first(env) / catalog.MANIFEST
    os.truncate(archive, archive.stat().st_size * 9 // 10)
    content = json.loads(manifest.read_bytes())
    content["files"] = catalog.sizes_and_sums(first(env))
    manifest.write_text(json.dumps(content))
    outcome = done(env, dumps.verify(env.backups))
    assert outcome.status == "failed" and "cannot be read to its end" in outcome.summary
    assert row_of(env, FIRST)["state"] == "damaged"


def count_refused(env: Environment, tmp_path: Path, *, cuts: int, bits: int) -> tuple[int, int]:
    """Truncate the archive and flip bits, one at a time; return how many cases were tried and refused."""
    import random

    backup = env.backups.named(FIRST)
    archive = backup.path / ARCHIVE
    content, chance = archive.read_bytes(), random.Random(5)
    refused = 0
    for cut in range(cuts):
        archive.write_bytes(content[: len(content) * cut // cuts])
        refused += is_damaged(backup)
        # PostgreSQL's own reader refuses it too
        with pytest.raises(BadAnswer):
            read_back(env.backups.programs(1), archive, tmp_path / "log", lambda: None)
    archive.write_bytes(content)
    for _ in range(bits):
        offset, bit = chance.randrange(len(content)), chance.randrange(8)
        flip_bit(archive, offset, bit)
        refused += is_damaged(backup)
        flip_bit(archive, offset, bit)
    assert not is_damaged(backup)
    return cuts + bits, refused


def is_damaged(backup: catalog.Backup) -> bool:
    try:
        check_files(backup, lambda _: None)
    except BackupDamaged:
        return True
    return False


def test_damaged_archives_are_refused(env: Environment, tmp_path: Path) -> None:
    assert count_refused(env, tmp_path, cuts=5, bits=20) == (25, 25)


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_damaged_archives_are_refused_at_every_percent_and_1000_bits(env: Environment, tmp_path: Path) -> None:
    assert count_refused(env, tmp_path, cuts=100, bits=1000) == (1100, 1100)


def test_backups_of_other_databases_and_servers_are_not_usable(env: Environment) -> None:
    manifest = first(env) / catalog.MANIFEST
    content = json.loads(manifest.read_bytes())
    backup = catalog.read_one(first(env))
    for key, value, why in (
        ("database", "payroll", "it is of database payroll"), ("system_identifier", "71", "it is of server 71"),
    ):  # fmt: skip
        manifest.write_text(json.dumps(content | {key: value}))
        catalog.record(backup.path, {k: v for k, v in backup.verification.items() if k != "manifest_sha256"})
        row = row_of(env, FIRST)
        assert row["state"] == "verified" and not row["usable"] and row["why"].startswith(why)
        found = dumps.check_age(dumps.stored(env.backups), env.limits.backups.backup_age)
        assert found.status is Status.ALERT and why in found.summary
        assert retention.prunable(env.backups).empty


# --- retention ----------------------------------------------------------------------------------------------------


def add_aged_copies(env: Environment, days: dict[str, float]) -> None:
    """Add copies of the first backup under these names, each so many days old."""
    original = catalog.read_one(first(env))
    for name, age in days.items():
        path = env.backups.folder / name
        if name != FIRST:
            shutil.copytree(original.path, path, copy_function=shutil.copy2)
        taken = (datetime.now(UTC) - timedelta(days=age)).isoformat()
        (path / catalog.MANIFEST).write_text(json.dumps(original.manifest | {"taken_at": taken}))
        catalog.record(path, {k: v for k, v in original.verification.items() if k != "manifest_sha256"})


def test_a_stale_backup(env: Environment) -> None:
    add_aged_copies(env, {FIRST: 3})
    stored = dumps.stored(env.backups)
    found = dumps.check_age(stored, env.limits.backups.backup_age)
    assert found.status is Status.ALERT and found.targets == (FIRST,)
    axes = charts.bars(stored, label="name", value="age_seconds", limit=env.limits.backups.backup_age)
    assert axes.get_title(loc="left") == env.limits.backups.backup_age.title
    assert dumps.check_intact(stored, env.limits.backups.backups_intact).status is Status.OK
    assert dumps.check_restore(stored, env.limits.backups.restore_time).status is Status.OK


def test_retention_by_count_and_age(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    two = Environment(
        type(env.settings).model_validate(
            (settings := env.settings.model_dump())
            | {"backups": settings["backups"] | {"keep_count": 2, "keep_age": "10d"}}
        )
    )
    names = {f"xai_blockchain-{number:06d}": 30.0 - 5 * number for number in range(1, 6)}
    add_aged_copies(two, names)  # 25, 20, 15, 10 and 5 days old
    os.truncate(env.backups.folder / "xai_blockchain-000002" / ARCHIVE, 20)
    assert list(retention.prunable(two.backups)["name"]) == [
        "xai_blockchain-000001", "xai_blockchain-000002", "xai_blockchain-000003",
    ]  # fmt: skip
    plan = retention.prune(two.backups)
    assert plan.risk == "destructive" and len(plan.targets) == 3 and plan.confirmation.startswith("prune 3 backups ")
    with pytest.raises(Refused, match="needs a person"):
        apply_headless(plan, two, digest=plan.digest)
    assert typed(two, plan, monkeypatch).status == "done"
    assert list(dumps.stored(two.backups)["name"]) == ["xai_blockchain-000005", "xai_blockchain-000004"]
    assert not retention.prune(two.backups).steps
    with pytest.raises(InputError, match="xai_blockchain-000005 is the newest verified backup, which is never removed"):
        retention.prune(two.backups, names=["xai_blockchain-000005"])
    with pytest.raises(InputError, match="there are no backups"):
        retention.prune(two.backups, names=["xai_blockchain-000001"])


# --- contents and checksums ---------------------------------------------------------------------------------------


def test_differences_of_contents() -> None:
    expected = {
        "tables": {"a": {"rows": "1", "checksum": "5"}, "b": {"rows": "2", "checksum": "6"}},
        "objects": {"views": 1},
    }
    assert differences(expected, expected) == []
    other = {"tables": {"a": {"rows": "1", "checksum": "7"}, "c": {"rows": "0", "checksum": "0"}}, "objects": {}}
    assert differences(expected, other) == [
        "table b is missing", "table c was not in the backup", "table a has other content", "0 views instead of 1",
    ]  # fmt: skip


def test_a_checksum_depends_on_values_and_not_on_their_order(server: Server) -> None:
    name = 'public."Od\'d ""name"'
    folder = os.open(server.data, os.O_PATH)
    host = f"/proc/self/fd/{folder}"
    with (
        server.superuser() as own,
        connect(host=host, port=server.port, user=SUPERUSER, dbname="xai_blockchain") as session,
    ):
        own.execute(f"CREATE TABLE {name} (n int, words text, at timestamptz, tiny real, raw bytea)")
        try:
            own.execute(f"INSERT INTO {name} VALUES (1, 'a', now(), 0.1, 'x'), (2, NULL, NULL, 'NaN', '')")
            before = contents(session)["tables"][name]
            own.execute(f"UPDATE {name} SET n = n")  # the order of rows changes
            own.execute("SET DateStyle = German")
            assert contents(session)["tables"][name] == before
            own.execute(f"UPDATE {name} SET words = 'b' WHERE n = 1")
            after = contents(session)["tables"][name]
            assert after["rows"] == before["rows"] == "2" and after["checksum"] != before["checksum"]
        finally:
            own.execute(f"DROP TABLE {name}")
    os.close(folder)


@pytest.fixture
def scratchpad(server: Server) -> Iterator[tuple[Any, Any]]:
    """A superuser's session in an empty database, and a session with the settings of a backup."""
    with server.superuser() as own:
        own.execute("CREATE DATABASE scratchpad TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    folder = os.open(server.data, os.O_PATH)
    where = {"host": f"/proc/self/fd/{folder}", "port": server.port, "user": SUPERUSER, "dbname": "scratchpad"}
    try:
        with psycopg.connect(**where, autocommit=True) as own, connect(**where) as session:
            yield own, session
    finally:
        os.close(folder)
        with server.superuser() as own:
            own.execute("DROP DATABASE scratchpad WITH (FORCE)")


F21_CHANGES = {
    "a column t": ("t int PRIMARY KEY, v text", "1, 'a'", "v = 'CHANGED'"),
    "a column t of a composite type": ("t pair, v text", "(1, 2), 'a'", "v = 'CHANGED'"),
    "a column with the function's name": ("record_out text, textin text", "'a', 'b'", "textin = 'c'"),
    "NULL and an empty text": ("a text, b text", "NULL, ''", "a = '', b = NULL"),
    "an array": ("a int[]", "'{1,2}'", "a = '{{1,2}}'"),
    "the lower bound of an array": ("a int[]", "'{1,2}'", "a = '[0:1]={1,2}'"),
    "NULL in an array": ("a text[]", "'{NULL}'", "a = '{\"NULL\"}'"),
    "the last digit of a number": ("a float8", "0.1", "a = 0.1::float8 + 1e-17 * 2"),
    "the scale of a number": ("a numeric", "1.0", "a = 1.00"),
    "a value that is stored out of line": ("a text", "repeat('x', 3000000)", "a = overlay(a placing 'y' from 2999999)"),
    "bytes": ("a bytea", r"'\x00ff'", r"a = '\x00fe'"),
    "a microsecond": ("a timestamptz", "'2026-01-01Z'", "a = a + interval '1 microsecond'"),
    "a generated column": ("a int, g int GENERATED ALWAYS AS (a * 0) STORED", "1", "a = 2"),
    "the order of a json document": ("a json", '\'{"a":1,"b":2}\'', 'a = \'{"b":2,"a":1}\''),
    "the sign of zero": ("a float4", "0", "a = '-0'"),
}


@pytest.mark.parametrize("change", F21_CHANGES)
def test_f21_a_checksum_covers_every_column(scratchpad: tuple[Any, Any], change: str) -> None:
    own, session = scratchpad
    columns, values, update = F21_CHANGES[change]
    own.execute("CREATE TYPE pair AS (v int, w int)")
    own.execute(f"CREATE TABLE c ({columns})")
    own.execute(f"INSERT INTO c VALUES ({values})")
    before = contents(session)["tables"]["public.c"]
    own.execute(f"UPDATE c SET {update}")
    after = contents(session)["tables"]["public.c"]
    assert after["rows"] == before["rows"] == "1" and after["checksum"] != before["checksum"]


def test_f21_a_checksum_covers_every_row_of_every_table(scratchpad: tuple[Any, Any]) -> None:
    own, session = scratchpad
    own.execute(
        """
        CREATE TABLE twice (a int);
        CREATE TABLE parent (a int);
        CREATE TABLE child () INHERITS (parent);
        CREATE TABLE whole (a int) PARTITION BY LIST (a);
        CREATE TABLE part PARTITION OF whole DEFAULT;
        CREATE UNLOGGED TABLE unlogged (a int);
        CREATE TABLE nothing ();
        CREATE TABLE hidden (a int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE FUNCTION always_a(hidden) RETURNS text LANGUAGE sql AS $$ SELECT 'a' $$;
        CREATE CAST (hidden AS text) WITH FUNCTION always_a(hidden);
        """
    )
    for table in ("twice", "parent", "child", "part", "unlogged", "hidden"):
        for values in ("(1), (1)", "(2)"):
            before = contents(session)["tables"]
            own.execute(f"INSERT INTO {table} VALUES {values}")
            after = contents(session)["tables"]
            assert {name for name in after if after[name] != before[name]} == {f"public.{table}"}
    own.execute("INSERT INTO nothing DEFAULT VALUES")
    assert contents(session)["tables"]["public.nothing"]["rows"] == "1"
    before = contents(session)["tables"]["public.hidden"]
    own.execute("UPDATE hidden SET a = 7 WHERE a = 2")
    assert contents(session)["tables"]["public.hidden"] != before, "a table's own cast to text must not be used"


def test_f21_sequences_are_compared(scratchpad: tuple[Any, Any]) -> None:
    own, session = scratchpad
    own.execute("CREATE SEQUENCE s; CREATE SEQUENCE down INCREMENT -5; SELECT nextval('s'), nextval('down')")
    before = contents(session)
    assert before["sequences"] == {"public.down": ["-1"], "public.s": ["1"]}
    own.execute("SELECT setval('s', 1, false)")
    assert differences(before, contents(session)) == ["sequence public.s is at 1 (not called) instead of 1"]
    own.execute("SELECT nextval('s'), nextval('s'), nextval('down')")
    moved = contents(session)
    # the dumped position of a moving sequence is between the two
    between = {name: [before["sequences"][name][0], moved["sequences"][name][0]] for name in moved["sequences"]}
    assert differences(before | {"sequences": between}, moved) == []
    own.execute("SELECT nextval('s')")
    assert differences(before | {"sequences": between}, contents(session)) == [
        "sequence public.s is at 3 instead of 1 to 2"
    ]
    own.execute("DROP SEQUENCE s")
    assert "sequence public.s is missing" in differences(before, contents(session))


def test_f21_texts_do_not_depend_on_session_settings(server: Server, scratchpad: tuple[Any, Any]) -> None:
    own, session = scratchpad
    own.execute(
        r"""
        CREATE TABLE c AS SELECT now() AS at, interval '1 day 2 h' AS i, 0.1::float8 + 0.2 AS f, '\xff'::bytea AS b,
                                 'public.c'::text AS t, 'pg_class'::regclass AS r, 1.5::money AS m
        """
    )
    before = contents(session)["tables"]
    for name, value in {
        "DateStyle": "German", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu", "bytea_output": "escape",
        "extra_float_digits": "-3", "quote_all_identifiers": "on", "search_path": "public", "client_encoding": "LATIN1",
    }.items():  # fmt: skip
        own.execute(f"ALTER DATABASE scratchpad SET {name} = '{value}'")
    folder = os.open(server.data, os.O_PATH)
    where = {"host": f"/proc/self/fd/{folder}", "port": server.port, "user": SUPERUSER, "dbname": "scratchpad"}
    with connect(**where) as other:
        assert contents(other)["tables"] == before
    os.close(folder)


def test_f21_a_backup_of_an_earlier_version_is_compared_as_it_was_made(scratchpad: tuple[Any, Any]) -> None:
    own, session = scratchpad
    own.execute("CREATE TABLE c (t int PRIMARY KEY, v text); INSERT INTO c VALUES (1, 'a'); CREATE SEQUENCE s")
    (old,) = own.execute(
        'SELECT coalesce(sum(hashtextextended(t::text COLLATE "C", 0)::numeric), 0)::text FROM ONLY c AS t'
    ).fetchone()
    earlier = {"tables": {"public.c": {"rows": "1", "checksum": old}}, "objects": contents(session)["objects"]}
    assert differences(earlier, contents(session, fingerprint=1)) == []
    assert differences(earlier, contents(session)) == ["table public.c has other content"]


def test_a_name_that_is_taken(env: Environment) -> None:
    with pytest.raises(Refused, match="already"):
        make_dump(env.backups.folder, FIRST, programs=None, form="custom", jobs=1, compress=6, say=lambda _: None)


def test_a_folder_that_cannot_be_read(env: Environment, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    settings = env.settings.model_dump()
    wrong = Environment(
        type(env.settings).model_validate({**settings, "backups": settings["backups"] | {"folder": str(file)}})
    )
    with pytest.raises(Unreachable, match="Not a directory"):
        dumps.stored(wrong.backups)
    with pytest.raises(NoData, match="no usable backup"):
        Environment(
            type(env.settings).model_validate(
                {**settings, "backups": settings["backups"] | {"folder": str(tmp_path / "no")}}
            )
        ).backups.newest("dump")
