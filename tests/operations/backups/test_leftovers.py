"""What interrupted restores, backups and index builds leave is found, named with its size, and removed (S8)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.operations.backups.test_restore_into import BACKUP, LIVE, oids, put
from tests.support import backed_up
from tests.support.backed_up import doer, done, result_of, typed
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
    put(server, *(f'DROP DATABASE "{name}"' for name in oids(server) if name not in ("postgres", LIVE)))


def killed(env: Environment, plan: Plan, monkeypatch: pytest.MonkeyPatch, words: str) -> Outcome:
    """The outcome of a restore that is killed where it says these words."""

    def kill(told: str) -> None:
        if words in told:
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
    outcome = killed(backed, plan, monkeypatch, "restoring into xai_restoring_proof")
    eventually(lambda: list(leftovers.leftover_databases(backed.database)["keep_reason"]) == [""])
    looked = reconcile(backed, outcome.entry)
    assert looked.status == "failed" and "or nothing lasting" not in looked.summary
    assert "xai_restoring_proof (" in looked.summary and "MiB)" in looked.summary
    assert "xai-runbook plan backups.remove_leftovers" in looked.summary
    # somebody's own of such a name, and one that somebody is in
    put(server, "CREATE DATABASE xai_restoring_mine OWNER xai_owner")
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


def test_s8_what_is_being_filled_stays(server: Server, backed: Environment) -> None:
    """By another run, perhaps of another folder: its session holds the database, whether or not one is in it now."""
    put(server, "CREATE DATABASE xai_restoring_it OWNER xai_owner")
    put(server, "COMMENT ON DATABASE xai_restoring_it IS 'xai-runbook fills this database'")
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    assert len(plan.targets) == 1
    with server.session() as holder:
        oid = oids(server)["xai_restoring_it"]
        holder.execute("SELECT pg_advisory_lock((7820::bigint << 32) | %s::bigint)", [oid])
        told = leftovers.remove_leftovers(backed.database, backed.backups)
        assert not told.steps and told.note == "xai_restoring_it stays: it is being restored right now"
        with doer(backed, plan) as process:
            code, words = result_of(process)
        assert code == 1 and "is being restored right now" in words
    with doer(backed, restores.restore(backed.database, backed.backups, into="free")) as process:
        assert result_of(process)[0] == 0
    assert "xai_restoring_it" in oids(server)


@pytest.mark.parametrize("made", ["renamed", "unmarked", "entered"])
def test_s8_only_that_very_database_is_removed(server: Server, backed: Environment, made: str) -> None:
    put(server, "CREATE DATABASE xai_restoring_it OWNER xai_owner")
    put(server, "COMMENT ON DATABASE xai_restoring_it IS 'xai-runbook fills this database'")
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    backed.database.close()
    inside = None
    if made == "renamed":
        put(server, "ALTER DATABASE xai_restoring_it RENAME TO kept",
            "CREATE DATABASE xai_restoring_it OWNER xai_owner",
            "COMMENT ON DATABASE xai_restoring_it IS 'xai-runbook fills this database'")  # fmt: skip
    elif made == "unmarked":
        put(server, "COMMENT ON DATABASE xai_restoring_it IS 'ours now'")
    else:
        from xai_runbook.sandbox.components import postgres_template

        inside = postgres_template.connect(server.data, server.port, "xai_restoring_it")
        inside.__enter__()
    before = oids(server)
    with doer(backed, plan) as process:
        code, words = result_of(process)
    assert code == 1 and "xai_restoring_it" in words, words
    assert oids(server) == before
    if inside is not None:
        inside.__exit__(None, None, None)


def left(server: Server, name: str, *inside: str) -> None:
    """Leaves a database as an interrupted restore does, with what is put into it."""
    from xai_runbook.sandbox.components import postgres_template

    put(server, f"CREATE DATABASE {name} OWNER xai_operator",
        f"COMMENT ON DATABASE {name} IS 'xai-runbook fills this database'")  # fmt: skip
    with postgres_template.connect(server.data, server.port, name) as session:
        for statement in inside:
            session.execute(statement.encode())


SUBSCRIBES = "CREATE SUBSCRIPTION {} CONNECTION 'host=nowhere dbname=x' PUBLICATION p WITH (connect = false)"


def test_s8_a_removal_that_stops_in_the_middle_names_what_is_gone(server: Server, backed: Environment) -> None:
    """Its own of a role that may not drop it stays; before, "nothing was done" stood where one was gone already."""
    left(server, "xai_restoring_a")
    left(server, "xai_restoring_b", SUBSCRIBES.format("s_of_b"))
    (backed.backups.folder / "xai_blockchain-000098.part").mkdir(parents=True)
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    with doer(backed, plan) as process:
        code, words = result_of(process)
    try:
        assert code == 3 and "must be owner of subscription s_of_b" in words and "somebody" not in words, words
        assert "removed: xai_restoring_a" in words and "removed: xai_blockchain-000098.part" in words
        assert {"xai_restoring_a", "xai_restoring_b"} & set(oids(server)) == {"xai_restoring_b"}
    finally:
        unsubscribed(server, "xai_restoring_b", "s_of_b")


def test_s8_files_that_are_gone_are_named_where_a_database_stays(server: Server, backed: Environment) -> None:
    from xai_runbook.sandbox.components import postgres_template

    left(server, "xai_restoring_it")
    (backed.backups.folder / "xai_blockchain-000097.part").mkdir(parents=True)
    (backed.backups.folder / ".restore.log").touch()
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    with postgres_template.connect(server.data, server.port, "xai_restoring_it"), doer(backed, plan) as process:
        code, words = result_of(process)
    assert code == 3 and "There is 1 other session using the database" in words, words
    assert "removed: .restore.log, xai_blockchain-000097.part" in words


@pytest.mark.parametrize("enabled", [False, True])
def test_s8_a_leftover_with_a_subscription_is_removed(server: Server, backed: Environment, enabled: bool) -> None:
    enable = ("ALTER SUBSCRIPTION s_of_it ENABLE",) if enabled else ()
    left(server, "xai_restoring_it", SUBSCRIBES.format("s_of_it"), *enable)
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    put(server, "ALTER ROLE xai_operator SUPERUSER")
    try:
        with doer(backed, plan) as process:
            code, words = result_of(process)
    finally:
        put(server, "ALTER ROLE xai_operator NOSUPERUSER")
    assert code == 0, words
    assert not any(name.startswith("xai_re") for name in oids(server))


def test_s8_a_subscription_that_is_gone_is_named_where_the_database_stays(server: Server, backed: Environment) -> None:
    from xai_runbook.sandbox.components import postgres_template

    left(server, "xai_restoring_it", SUBSCRIBES.format("s_of_it"))
    plan = leftovers.remove_leftovers(backed.database, backed.backups)
    put(server, "ALTER ROLE xai_operator SUPERUSER")
    try:
        with postgres_template.connect(server.data, server.port, "xai_restoring_it"), doer(backed, plan) as process:
            code, words = result_of(process)
    finally:
        put(server, "ALTER ROLE xai_operator NOSUPERUSER")
    assert code == 3 and 'its subscription "s_of_it" was dropped' in words, words
    assert "xai_restoring_it" in oids(server)


def unsubscribed(server: Server, database: str, subscription: str) -> None:
    from xai_runbook.sandbox.components import postgres_template

    with postgres_template.connect(server.data, server.port, database) as session:
        session.execute(f"ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)".encode())
        session.execute(f"DROP SUBSCRIPTION {subscription}".encode())


def test_s8_a_restore_drops_no_namesake(server: Server, backed: Environment) -> None:
    """A database that somebody else calls as a restore would: with FORCE it went, whoever was in it."""
    plan = restores.restore(backed.database, backed.backups, name=BACKUP, into="proof")
    put(server, "CREATE DATABASE xai_restoring_proof OWNER xai_owner")
    with doer(backed, plan) as process:
        code, words = result_of(process)
    assert code == 1 and "is not marked as a leftover" in words
    assert {"proof", "xai_restoring_proof"} & set(oids(server)) == {"xai_restoring_proof"}


def test_s8_an_index_that_was_left_is_named(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a REINDEX that was killed leaves it."""
    plan = maintenance.reindex(backed.database, index="public.wallets_pkey", disk_space_checked=True)
    number = journal_of(backed).append("intent", digest="i", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    with server.superuser() as session:
        session.execute("SET ROLE xai_owner")
        session.execute("CREATE INDEX wallets_pkey_ccnew ON wallets (address)")
        session.execute("RESET ROLE")
        session.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'wallets_pkey_ccnew'::regclass")
    looked = reconcile(backed, number)
    assert looked.status == "failed" and "left behind: public.wallets_pkey_ccnew (" in looked.summary
    assert "xai-runbook plan database.drop_invalid_indexes" in looked.summary
    plan = maintenance.drop_invalid_indexes(backed.database, indexes=["public.wallets_pkey_ccnew"])
    assert typed(backed, plan, monkeypatch).status == "done"
    assert list(indexes.indexes(backed.database)["valid"].unique()) == [True]


def test_s8_an_unknown_restore_blocks_the_removal_until_it_is_looked_at(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = restores.restore(backed.database, backed.backups, into="proof")
    outcome = killed(backed, plan, monkeypatch, "restoring into xai_restoring_proof")
    eventually(lambda: list(leftovers.leftover_databases(backed.database)["keep_reason"]) == [""])
    with pytest.raises(Refused, match="is unknown"):
        typed(backed, leftovers.remove_leftovers(backed.database, backed.backups), monkeypatch)
    assert reconcile(backed, outcome.entry).status == "failed"
    assert typed(backed, leftovers.remove_leftovers(backed.database, backed.backups), monkeypatch).status == "done"
