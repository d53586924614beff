"""Base backups, the WAL archive and recovery to a point in time, on a real server with a real archive."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import backed_up
from tests.support.backed_up import done
from tests.support.postgres_server import Server, running
from xai_runbook.environment import Environment
from xai_runbook.errors import BadAnswer, InputError, NoData, NotConfigured
from xai_runbook.model.findings import Status
from xai_runbook.operations.backups import base_backups, dumps, point_in_time, wal_archive
from xai_runbook.pgbackup import private_cluster, wal
from xai_runbook.pgbackup.recovery import DATA, recovered_cluster
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")
MIB = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("recovery")) as found:
        backed_up.smaller(found)
        yield found


@pytest.fixture(scope="module")
def env(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The server, with one verified base backup."""
    found = backed_up.environment(server, tmp_path_factory.mktemp("journal") / "journal")
    outcome = done(found, base_backups.base_backup(found.database, found.backups))
    assert outcome.status == "done", outcome
    yield found
    found.database.close()


def eventually(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while (value := holds()) is None or value is False:
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def archive_current_segment(server: Server, env: Environment) -> None:
    """Switch to a new WAL segment, and wait until the old one or a later one is in the archive."""

    def closed() -> bool:
        with server.superuser() as session:
            session.execute("SELECT pg_create_restore_point('test')")
            (row,) = session.execute("SELECT pg_walfile_name(pg_current_wal_lsn()), pg_switch_wal()").fetchall()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            if row[0] in [name for name, _, _ in env.backups.archived_files()]:
                return True
            time.sleep(0.05)
        return False  # the archiver has not read its new settings yet

    eventually(closed)


# --- base backups -------------------------------------------------------------------------------------------------


def test_a_base_backup_is_verified_and_started(env: Environment) -> None:
    (backup,) = [each for each in env.backups.stored() if each.manifest["kind"] == "cluster"]
    assert backup.state == "verified" and backup.manifest["how"] == "pg_basebackup"
    assert backup.verification["rows"] >= 200, "every table was read"
    assert not (backup.path / DATA / "recovery.signal").exists(), "only a copy of it is started"
    row = dumps.stored(env.backups).set_index("name").loc[backup.name]
    assert row["kind"] == "cluster" and row["usable"]
    (space,) = base_backups.cluster_space(env.database, env.backups).to_dict("records")
    assert space["spare_bytes"] == space["available_bytes"] - space["needed_bytes"]


def test_a_damaged_file_of_a_base_backup(env: Environment, tmp_path: Path) -> None:
    (backup,) = [each for each in env.backups.stored() if each.manifest["kind"] == "cluster"]
    copy = env.backups.folder / "cluster-000099"
    shutil.copytree(backup.path, copy, copy_function=shutil.copy2)
    largest = max((copy / DATA / "base").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    with open(largest, "r+b") as file:
        file.seek(10_000)
        file.write(b"\0\1\2\3")
    try:
        outcome = done(env, dumps.verify(env.backups, name=copy.name))
        assert outcome.status == "failed" and "pg_verifybackup rejected it" in outcome.summary
        assert dumps.check_intact(dumps.stored(env.backups), env.limits.backups.backups_intact).status is Status.ALERT
    finally:
        shutil.rmtree(copy)


def test_a_low_level_backup(env: Environment) -> None:
    plan = base_backups.low_level_backup(env.database, env.backups)
    assert "--archive" in plan.steps[0].argv  # type: ignore[union-attr]
    outcome = done(env, plan)
    assert outcome.status == "done", outcome
    name = plan.targets[0].partition(",")[0]
    backup = env.backups.named(name)
    assert backup.state == "verified" and backup.manifest["how"] == "low-level"
    label = (backup.path / DATA / "backup_label").read_text()
    assert "LABEL: xai-runbook" in label and "STOP" not in label
    assert not (backup.path / DATA / "postmaster.pid").exists()
    shutil.rmtree(backup.path)


def test_clusters_that_cannot_be_copied(server: Server, env: Environment) -> None:
    with server.superuser() as session:
        session.execute("CREATE ROLE rds_superuser")
        try:
            plan = base_backups.base_backup(env.database, env.backups)
            assert "hosted server" in plan.refused and not plan.steps
        finally:
            session.execute("DROP ROLE rds_superuser")
        other = server.layout.folder / "tablespace"
        other.mkdir()
        session.execute(f"CREATE TABLESPACE elsewhere LOCATION '{other}'".encode())
        try:
            assert "1 tablespaces are outside" in base_backups.base_backup(env.database, env.backups).refused
        finally:
            session.execute("DROP TABLESPACE elsewhere")


# --- the archive --------------------------------------------------------------------------------------------------


def test_a_working_archive(server: Server, env: Environment) -> None:
    archive_current_segment(server, env)
    row = wal_archive.archiving(env.database, env.backups)
    found = wal_archive.check_archiving(row, env.limits.backups.wal_archiving)
    assert found.status is Status.OK and "WAL has been waiting" in found.summary


def test_a_failing_archive_command(server: Server, env: Environment) -> None:
    archive = env.backups.archive_folder
    assert archive is not None
    away = archive.with_name("away")
    archive.rename(away)
    try:
        with server.superuser() as session:
            session.execute("SELECT pg_create_restore_point('test')")
            session.execute("SELECT pg_switch_wal()")

        def failing() -> Any:
            row = wal_archive.archiving(env.database, env.backups)
            return row if row["failing"].iloc[0] and row["waiting_seconds"].iloc[0] > 0.5 else None

        row = eventually(failing)
        assert row["error"].iloc[0], "the archive itself cannot be read"
        limit = env.limits.backups.wal_archiving
        assert wal_archive.check_archiving(row, limit).status is Status.UNKNOWN, "the archive is not checked"
        found = wal_archive.check_archiving(row.assign(waiting_seconds=limit.threshold + 1), limit)
        assert found.status is Status.ALERT and "failed last" in found.summary and found.targets == ("archiver",)
    finally:
        away.rename(archive)
    archive_current_segment(server, env)
    assert wal_archive.check_archiving(wal_archive.archiving(env.database, env.backups), limit).status is Status.OK


def test_an_archive_command_that_archives_nothing(server: Server, env: Environment) -> None:
    with server.superuser() as session:
        session.execute("ALTER SYSTEM SET archive_command = 'true'")
        session.execute("SELECT pg_reload_conf()")
        try:
            session.execute("SELECT pg_create_restore_point('test')")
            session.execute("SELECT pg_switch_wal()")

            def missing() -> Any:
                row = wal_archive.archiving(env.database, env.backups)
                return row if row["missing"].iloc[0] else None

            found = wal_archive.check_archiving(eventually(missing), env.limits.backups.wal_archiving)
            assert found.status is Status.ALERT and "it is not in the archive" in found.summary
        finally:
            session.execute("ALTER SYSTEM RESET archive_command")
            session.execute("SELECT pg_reload_conf()")
    # there is a gap now: nothing after it is recoverable
    archive_current_segment(server, env)
    (row,) = wal_archive.recoverable(env.backups).to_dict("records")
    assert row["gap"] and wal.parse_lsn(row["latest_lsn"]) > wal.parse_lsn(row["earliest_lsn"]) - 4 * MIB
    with pytest.raises(InputError, match="is not recoverable"):
        point_in_time.recover_to(env.backups, time=datetime.now(UTC).isoformat())
    # a new base backup starts after the gap
    (base,) = [each for each in env.backups.stored() if each.manifest["kind"] == "cluster"]
    assert done(env, base_backups.base_backup(env.database, env.backups)).status == "done"
    shutil.rmtree(base.path)


def test_no_alert_without_a_configured_archive(server: Server, env: Environment, tmp_path: Path) -> None:
    class Off:
        """The answer of a server with archive_mode off, which would need a restart here."""

        def rows(self, name: str) -> list[dict[str, Any]]:
            return [{**env.database.rows(name)[0], "mode": "off"}]

    off: Any = Off()
    limit = env.limits.backups.wal_archiving
    found = wal_archive.check_archiving(wal_archive.archiving(off, env.backups), limit)
    assert found.status is Status.ALERT and "archive_mode is off" in found.summary
    unwanted = backed_up.environment(server, tmp_path / "journal", archive=None)
    with pytest.raises(NotConfigured, match="settings name no archive"):
        wal_archive.archiving(off, unwanted.backups)
    with pytest.raises(NotConfigured, match="no WAL archive"):
        wal_archive.recoverable(unwanted.backups)


# --- recovery -----------------------------------------------------------------------------------------------------


def test_recovery_to_the_minute_before_a_bad_delete(server: Server, env: Environment) -> None:
    """By time and by LSN: everything committed before is there, and nothing that was committed later."""
    with server.superuser() as session:
        session.execute("CREATE TABLE ledger (n int, at timestamptz DEFAULT clock_timestamp())")
        session.execute("INSERT INTO ledger SELECT generate_series(1, 1000)")

        def now() -> tuple[datetime, str]:
            (row,) = session.execute("SELECT clock_timestamp(), pg_current_wal_insert_lsn()::text").fetchall()
            return row[0], row[1]

        before, position = now()
        session.execute("DELETE FROM ledger WHERE n > 10")
        between, _ = now()
        session.execute("INSERT INTO ledger VALUES (1001)")
        session.execute("CREATE TABLE afterwards (n int)")
    archive_current_segment(server, env)
    ledger = "xai_blockchain.public.ledger"
    try:
        plan = point_in_time.recover_to(env.backups, time=before.isoformat(), expect=[f"{ledger}=1000"])
        assert plan.risk == "additive"
        outcome = done(env, plan)
        assert outcome.status == "done", outcome
        name = plan.scope
        tables = point_in_time.recovered_tables(env.backups, name=name).set_index("table")
        assert tables.loc[ledger, "rows"] == 1000 and "xai_blockchain.public.afterwards" not in tables.index
        (recovery,) = point_in_time.recoveries(env.backups).to_dict("records")
        assert (
            recovery["name"] == name
            and recovery["reached_at"] <= before
            and "before commit" in recovery["stop_message"]
        )
        assert not recovery["cluster_kept"] and not recovery["differences"]

        differing = point_in_time.recover_to(env.backups, lsn=position, expect=[f"{ledger}=10"], keep=True)
        outcome = done(env, differing)
        assert outcome.status == "unknown" and outcome.observed[0]["state"] == "differs"
        newest = point_in_time.recoveries(env.backups).iloc[0]
        assert newest["cluster_kept"] and newest["differences"] == f"{ledger} has 1000 rows instead of 10"
        assert_kept_cluster_is_independent(env, env.backups.folder / newest["name"] / DATA, ledger_rows=1000)

        found = rows_recovered_to(env, between)
        assert found == 10, "after the DELETE, before the next transaction"
    finally:
        with server.superuser() as session:
            session.execute("DROP TABLE ledger, afterwards")


def rows_recovered_to(env: Environment, at: datetime) -> int:
    (backup,) = [each for each in env.backups.stored() if each.manifest["kind"] == "cluster"]
    with recovered_cluster(
        env.backups.folder, backup, env.backups.programs(1), archive=env.backups.archive_folder,
        target_settings={"recovery_target_time": at.isoformat()}, say=lambda _: None,
    ) as cluster, cluster.connect("xai_blockchain") as session:  # fmt: skip
        (row,) = session.execute("SELECT count(*) FROM public.ledger").fetchall()
    return int(row[0])


def assert_kept_cluster_is_independent(env: Environment, data: Path, *, ledger_rows: int) -> None:
    """Assert that the kept cluster starts, accepts writes and archives nothing."""
    tools = env.backups.programs(1)
    before = env.backups.archived_files()
    with private_cluster.started(tools, data, log=data.parent / "log") as host:
        from xai_runbook.pgbackup.fingerprint import connect

        with connect(host=host, user="xai_superuser", dbname="xai_blockchain") as session:
            assert session.execute("SELECT count(*) FROM public.ledger").fetchone() == (ledger_rows,)
            session.execute("CREATE TABLE public.mine (n int)")
            assert session.execute("SHOW archive_mode").fetchone() == ("off",)
    assert env.backups.archived_files() == before


def test_invalid_recovery_targets(env: Environment) -> None:
    (row,) = wal_archive.recoverable(env.backups).to_dict("records")
    assert row["earliest_at"] <= row["latest_at"] and not row["gap"]
    early = (row["earliest_at"] - timedelta(seconds=5)).isoformat()
    for arguments in ({"time": early}, {"time": "2099-01-01T00:00:00Z"}, {"lsn": "0/1"}, {"lsn": "FF/0"}):
        with pytest.raises(InputError, match="is not recoverable"):
            point_in_time.recover_to(env.backups, **arguments)  # type: ignore[arg-type]
    for arguments, why in (
        ({"time": "yesterday-ish"}, "invalid time"),
        ({"time": "2026-01-31T12:00:00"}, "has no zone"),
        ({"lsn": "12"}, "invalid LSN"),
        ({"time": "2026-01-31T12:00:00Z", "lsn": "0/1"}, "not both"),
    ):
        with pytest.raises(InputError, match=why):
            point_in_time.recover_to(env.backups, **arguments)  # type: ignore[arg-type]
    assert point_in_time.recover_to(env.backups).note == "no recovery target was given"
    assert point_in_time.recovery_state(env.backups, name="recovery-000099")["state"].iloc[0] == "missing"
    with pytest.raises(NoData):
        point_in_time.recovered_tables(env.backups, name="recovery-000099")


def test_a_target_past_the_end_of_the_log(env: Environment) -> None:
    """PostgreSQL itself refuses a target that it cannot reach."""
    (backup,) = [each for each in env.backups.stored() if each.manifest["kind"] == "cluster"]
    with (
        pytest.raises(BadAnswer, match="recovery ended before configured recovery target was reached"),
        recovered_cluster(
            env.backups.folder, backup, env.backups.programs(1), archive=env.backups.archive_folder,
            target_settings={"recovery_target_lsn": "FF/0"}, say=lambda _: None,
        ),
    ):  # fmt: skip
        raise AssertionError("it was never there")
    assert not [path for path in env.backups.folder.iterdir() if path.name.startswith(".scratch")]


def test_lsns_and_segments() -> None:
    for size in (MIB, 4 * MIB, 16 * MIB, 1024 * MIB):
        for position in (0, size - 1, size, 2**32 - 1, 2**32, 5 * 2**32 + 3 * size):
            segment = wal.Segment.containing(3, position, size)
            assert wal.Segment.from_name(segment.name, size) == segment
            assert segment.end - size <= position < segment.end
            assert wal.parse_lsn(wal.format_lsn(position)) == position
    assert wal.Segment.from_name("000000010000000000000001.gz", 16 * MIB) == wal.Segment(1, 1, 16 * MIB)
    for name in ("00000002.history", "000000010000000000000001.part", "000000010000000000000001.00000028.backup", "x"):
        assert wal.Segment.from_name(name, 16 * MIB) is None
    assert wal.Segment.names_between(1, "0/FFFFF0", "0/2000000", 16 * MIB) == [
        "000000010000000000000000", "000000010000000000000001",
    ]  # fmt: skip
