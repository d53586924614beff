"""S8: leftovers of interrupted restores, backups and index builds are found, named with their size, and removed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.operations.backups.test_restore_into import BACKUP, LIVE, execute, oids
from tests.support import backed_up
from tests.support.backed_up import done, result_of, step_process, typed
from tests.support.postgres_server import Server, running
from xai_runbook.changes.journals import journal_of
from xai_runbook.changes.reconcile import reconcile
from xai_runbook.environment import Environment
from xai_runbook.errors import Refused
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import Plan, Risk
from xai_runbook.operations.backups import dumps, leftovers, restores
from xai_runbook.operations.database import indexes, maintenance
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("leftovers")) as found:
        backed_up.smaller(found)
        yield found


@pytest.fixture(scope="module")
def backed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    found = backed_up.environment(server, tmp_path_factory.mktemp("journal") / "journal")
    assert done(found, dumps.dump(found.database, found.backups)).status == "done"
    yield found
    found.database.close()


@pytest.fixture(autouse=True)
def only_the_live_one(server: Server, backed: Environment) -> Iterator[None]:
    yield
    backed.database.close()
    execute(server, *(f'DROP DATABASE "{name}"' for name in oids(server) if name not in ("postgres", LIVE)))


def killed_restore(env: Environment, plan: Plan, monkeypatch: pytest.MonkeyPatch, text: str) -> Outcome:
    """Apply a restore, kill it at the first progress line with this text, and return its outcome."""

    def kill(line: str) -> None:
        if text in line:
            for pid in Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split():
                with suppress(OSError):
                    if b"xai_runbook.pgbackup\0restore" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(int(pid), signal.SIGKILL)

    outcome = typed(env, plan, monkeypatch, kill)
    assert outcome.status == "unknown", outcome
    return outcome


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_s8_a_killed_restore_is_named_by_reconcile_and_removed(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leftovers.remove_leftovers(backed.database, backed.backups).note == "there are no leftovers"
    plan = restores.restore(backed.database, backed.backups, into="proof")
    outcome = killed_restore(backed, plan, monkeypatch, "restoring into xai_restoring_proof")
    eventually(lambda: list(leftovers.leftover_databases(backed.database)["keep_reason"]) == [""])
    reconciled = reconcile(backed, outcome.entry)
    assert reconciled.status == "failed" and "no lasting effect" not in reconciled.summary
    assert "xai_restoring_proof (" in reconciled.summary and "MiB)" in reconciled.summary
    assert "xai-runbook plan backups.remove_leftovers" in reconciled.summary
    # a database of that prefix without our mark, and an unfinished backup
    execute(server, "CREATE DATABASE xai_restoring_mine OWNER xai_owner")
    (backed.backups.folder / "xai_blockchain-000099.part").mkdir()
    (backed.backups.folder / "xai_blockchain-000099.part" / "database.dump").write_bytes(b"x" * 2**20)
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    assert plan.risk is Risk.DESTRUCTIVE and len(plan.targets) == 4
    assert "xai_blockchain-000099.part, 1 MiB" in plan.targets
    assert plan.note.startswith("xai_restoring_mine stays: it is not marked as a leftover")
    assert typed(backed, plan, monkeypatch).status == "done"
    assert set(oids(server)) == {"postgres", LIVE, "xai_restoring_mine"} and not backed.backups.leftovers()
    again = leftovers.remove_leftovers(backed.database, backed.backups)
    assert not again.steps and "xai_restoring_mine stays" in again.note


def test_s8_a_database_that_is_being_restored_stays(server: Server, backed: Environment) -> None:
    """Another run, perhaps of another folder, holds the lock even if no session is in the database now."""
    execute(server, "CREATE DATABASE xai_restoring_it OWNER xai_owner")
    execute(server, "COMMENT ON DATABASE xai_restoring_it IS 'xai-runbook fills this database'")
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    assert len(plan.targets) == 1
    with server.session() as holder:
        oid = oids(server)["xai_restoring_it"]
        holder.execute("SELECT pg_advisory_lock((7820::bigint << 32) | %s::bigint)", [oid])
        again = leftovers.remove_leftovers(backed.database, backed.backups)
        assert not again.steps and again.note == "xai_restoring_it stays: it is being restored right now"
        with step_process(backed, plan) as process:
            code, output = result_of(process)
        assert code == 1 and "is being restored right now" in output
    with step_process(backed, restores.restore(backed.database, backed.backups, into="free")) as process:
        assert result_of(process)[0] == 0
    assert "xai_restoring_it" in oids(server)


@pytest.mark.parametrize("made", ["renamed", "unmarked", "entered"])
def test_s8_only_the_marked_database_of_that_oid_is_removed(server: Server, backed: Environment, made: str) -> None:
    execute(server, "CREATE DATABASE xai_restoring_it OWNER xai_owner")
    execute(server, "COMMENT ON DATABASE xai_restoring_it IS 'xai-runbook fills this database'")
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    backed.database.close()
    inside = None
    if made == "renamed":
        execute(server, "ALTER DATABASE xai_restoring_it RENAME TO kept",
            "CREATE DATABASE xai_restoring_it OWNER xai_owner",
            "COMMENT ON DATABASE xai_restoring_it IS 'xai-runbook fills this database'")  # fmt: skip
    elif made == "unmarked":
        execute(server, "COMMENT ON DATABASE xai_restoring_it IS 'ours now'")
    else:
        from xai_runbook.sandbox.components import postgres_template

        inside = postgres_template.connect(server.data, server.port, "xai_restoring_it")
        inside.__enter__()
    before = oids(server)
    with step_process(backed, plan) as process:
        code, output = result_of(process)
    assert code == 1 and "xai_restoring_it" in output, output
    assert oids(server) == before
    if inside is not None:
        inside.__exit__(None, None, None)


def leave_database(server: Server, name: str, *inside: str) -> None:
    """Create a database as an interrupted restore leaves it, after running these statements in it."""
    from xai_runbook.sandbox.components import postgres_template

    execute(server, f"CREATE DATABASE {name} OWNER xai_operator",
        f"COMMENT ON DATABASE {name} IS 'xai-runbook fills this database'")  # fmt: skip
    with postgres_template.connect(server.data, server.port, name) as session:
        for statement in inside:
            session.execute(statement.encode())


SUBSCRIBES = "CREATE SUBSCRIPTION {} CONNECTION 'host=nowhere dbname=x' PUBLICATION p WITH (connect = false)"


def test_s8_a_removal_that_stops_in_the_middle_names_what_was_removed(server: Server, backed: Environment) -> None:
    """The role may not drop the subscription of the second database; the first one is removed already."""
    leave_database(server, "xai_restoring_a")
    leave_database(server, "xai_restoring_b", SUBSCRIBES.format("s_of_b"))
    (backed.backups.folder / "xai_blockchain-000098.part").mkdir(parents=True)
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    with step_process(backed, plan) as process:
        code, output = result_of(process)
    try:
        assert code == 3 and "must be owner of subscription s_of_b" in output and "somebody" not in output, output
        assert "removed: xai_restoring_a" in output and "removed: xai_blockchain-000098.part" in output
        assert {"xai_restoring_a", "xai_restoring_b"} & set(oids(server)) == {"xai_restoring_b"}
    finally:
        unsubscribed(server, "xai_restoring_b", "s_of_b")


def test_s8_removed_files_are_named_if_a_database_stays(server: Server, backed: Environment) -> None:
    from xai_runbook.sandbox.components import postgres_template

    leave_database(server, "xai_restoring_it")
    (backed.backups.folder / "xai_blockchain-000097.part").mkdir(parents=True)
    (backed.backups.folder / ".restore.log").touch()
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    with postgres_template.connect(server.data, server.port, "xai_restoring_it"), step_process(backed, plan) as process:
        code, output = result_of(process)
    assert code == 3 and "There is 1 other session using the database" in output, output
    assert "removed: .restore.log, xai_blockchain-000097.part" in output


@pytest.mark.parametrize("enabled", [False, True])
def test_s8_a_leftover_with_a_subscription_is_removed(server: Server, backed: Environment, enabled: bool) -> None:
    enable = ("ALTER SUBSCRIPTION s_of_it ENABLE",) if enabled else ()
    leave_database(server, "xai_restoring_it", SUBSCRIBES.format("s_of_it"), *enable)
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    execute(server, "ALTER ROLE xai_operator SUPERUSER")
    try:
        with step_process(backed, plan) as process:
            code, output = result_of(process)
    finally:
        execute(server, "ALTER ROLE xai_operator NOSUPERUSER")
    assert code == 0, output
    assert not any(name.startswith("xai_re") for name in oids(server))


def test_s8_a_dropped_subscription_is_named_if_the_database_stays(server: Server, backed: Environment) -> None:
    from xai_runbook.sandbox.components import postgres_template

    leave_database(server, "xai_restoring_it", SUBSCRIBES.format("s_of_it"))
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    execute(server, "ALTER ROLE xai_operator SUPERUSER")
    try:
        with (
            postgres_template.connect(server.data, server.port, "xai_restoring_it"),
            step_process(backed, plan) as process,
        ):
            code, output = result_of(process)
    finally:
        execute(server, "ALTER ROLE xai_operator NOSUPERUSER")
    assert code == 3 and 'its subscription "s_of_it" was dropped' in output, output
    assert "xai_restoring_it" in oids(server)


def unsubscribed(server: Server, database: str, subscription: str) -> None:
    from xai_runbook.sandbox.components import postgres_template

    with postgres_template.connect(server.data, server.port, database) as session:
        session.execute(f"ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)".encode())
        session.execute(f"DROP SUBSCRIPTION {subscription}".encode())


def test_s8_a_restore_drops_no_namesake(server: Server, backed: Environment) -> None:
    """A database without our mark is not dropped, even if its name is that of an unfinished restore."""
    plan = restores.restore(backed.database, backed.backups, name=BACKUP, into="proof")
    execute(server, "CREATE DATABASE xai_restoring_proof OWNER xai_owner")
    with step_process(backed, plan) as process:
        code, output = result_of(process)
    assert code == 1 and "is not marked as a leftover" in output
    assert {"proof", "xai_restoring_proof"} & set(oids(server)) == {"xai_restoring_proof"}


def test_s8_a_leftover_index_is_named(server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a killed REINDEX leaves behind."""
    plan = maintenance.reindex(backed.database, index="public.wallets_pkey", disk_space_checked=True)
    number = journal_of(backed).append("intent", digest="i", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    with server.superuser() as session:
        session.execute("SET ROLE xai_owner")
        session.execute("CREATE INDEX wallets_pkey_ccnew ON wallets (address)")
        session.execute("RESET ROLE")
        session.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'wallets_pkey_ccnew'::regclass")
    reconciled = reconcile(backed, number)
    assert reconciled.status == "failed" and "left behind: public.wallets_pkey_ccnew (" in reconciled.summary
    assert "xai-runbook plan database.drop_invalid_indexes" in reconciled.summary
    plan = maintenance.drop_invalid_indexes(backed.database, indexes=["public.wallets_pkey_ccnew"])
    assert typed(backed, plan, monkeypatch).status == "done"
    assert list(indexes.indexes(backed.database)["valid"].unique()) == [True]


def test_s8_an_unknown_restore_blocks_the_removal_until_it_is_reconciled(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = restores.restore(backed.database, backed.backups, into="proof")
    outcome = killed_restore(backed, plan, monkeypatch, "restoring into xai_restoring_proof")
    eventually(lambda: list(leftovers.leftover_databases(backed.database)["keep_reason"]) == [""])
    with pytest.raises(Refused, match="is unknown"):
        typed(backed, leftovers.remove_leftovers(backed.database, backed.backups), monkeypatch)
    assert reconcile(backed, outcome.entry).status == "failed"
    assert typed(backed, leftovers.remove_leftovers(backed.database, backed.backups), monkeypatch).status == "done"
