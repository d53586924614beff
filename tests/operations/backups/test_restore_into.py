"""S4, S7: databases are renamed, swapped back and found by their oids, because names may change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support import backed_up
from tests.support.backed_up import a_person, done, result_of, step_process, typed
from tests.support.postgres_server import Server, running
from xai_runbook import apply
from xai_runbook.changes.credentials import role_environment
from xai_runbook.changes.journals import journal_of
from xai_runbook.changes.preflight import holds, skip_if_fulfilled
from xai_runbook.changes.reconcile import reconcile, undo
from xai_runbook.environment import Environment
from xai_runbook.errors import Refused
from xai_runbook.model.plans import Plan
from xai_runbook.model.secret import write_access
from xai_runbook.operations.backups import dumps, restores
from xai_runbook.operations.database import maintenance, sessions, statements
from xai_runbook.pgbackup import __main__ as program
from xai_runbook.pgbackup import database_properties, restore_into
from xai_runbook.pgbackup.fingerprint import fetch_rows
from xai_runbook.pgbackup.pg_tools import Terminated
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")
LIVE, BACKUP = "xai_blockchain", "xai_blockchain-000002"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("replacing")) as found:
        backed_up.smaller(found)
        yield found


@pytest.fixture(scope="module")
def backed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    found = backed_up.environment(server, tmp_path_factory.mktemp("journal") / "journal")
    assert done(found, dumps.dump(found.database, found.backups)).status == "done"
    yield found
    found.database.close()


def oids(server: Server) -> dict[str, int]:
    with server.superuser() as session:
        return dict(session.execute("SELECT datname, oid::bigint FROM pg_database WHERE NOT datistemplate").fetchall())


def execute(server: Server, *statements: str) -> None:
    """Terminate all other sessions, then run the statements in the database postgres."""
    from xai_runbook.sandbox.components import postgres_template

    with postgres_template.connect(server.data, server.port, "postgres") as session:
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname <> 'postgres'")
        for statement in statements:
            session.execute(statement.encode())


@pytest.fixture(autouse=True)
def only_the_live_one(server: Server, backed: Environment) -> Iterator[None]:
    """Restore the name of the live database after each test, and drop all others."""
    old_oid = oids(server)[LIVE]
    yield
    backed.database.close()
    now = oids(server)
    if now.get(LIVE) != old_oid:
        old = next(name for name, oid in now.items() if oid == old_oid)
        execute(server, *([f'ALTER DATABASE "{LIVE}" RENAME TO away'] if LIVE in now else []),
            f'ALTER DATABASE "{old}" RENAME TO "{LIVE}"')  # fmt: skip
    execute(server, *(f'DROP DATABASE "{name}"' for name in oids(server) if name not in ("postgres", LIVE)))


def create_database(server: Server, name: str) -> None:
    execute(server, f'CREATE DATABASE "{name}" OWNER xai_owner')


# --- S4: databases renamed between plan and apply -----------------------------------------------------------------


@pytest.mark.parametrize("renamed", ["proof", LIVE])
def test_s4_a_swap_compares_oids(server: Server, backed: Environment, renamed: str) -> None:
    """The program renames the two databases of the plan or none, whatever was checked before."""
    create_database(server, "proof")
    plan = restores.swap(backed.database, restored="proof")
    backed.database.close()
    execute(server, f'ALTER DATABASE "{renamed}" RENAME TO moved')
    create_database(server, renamed)
    before = oids(server)
    with step_process(backed, plan) as process:
        code, output = result_of(process)
    assert code == 1 and "as planned" in output, output
    assert oids(server) == before


def test_s4_apply_refuses_a_renamed_database(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_database(server, "proof")
    swap = restores.swap(backed.database, restored="proof")
    execute(server, "ALTER DATABASE proof RENAME TO moved")
    create_database(server, "proof")
    with pytest.raises(Refused, match="the system has changed"):
        typed(backed, swap, monkeypatch)


def test_s4_no_change_acts_in_another_database_of_that_name(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.session():
        (pid,) = (row["pid"] for _, row in sessions.sessions(backed.database).iterrows() if row["role"] == "xai_app")
        plans: list[Plan] = [
            sessions.terminate(backed.database, pids=[int(pid)]),
            maintenance.vacuum(backed.database, tables=["public.wallets"]),
            maintenance.reindex(backed.database, table="public.wallets", disk_space_checked=True),
            dumps.dump(backed.database, backed.backups),
            restores.overwrite(backed.database, backed.backups, name=BACKUP),
        ]
    backed.database.close()
    execute(server, f"ALTER DATABASE {LIVE} RENAME TO moved", f"CREATE DATABASE {LIVE} TEMPLATE moved OWNER xai_owner")
    for plan in plans:
        assert plan.steps
        with pytest.raises(Refused, match="another database answers: database_oid was"):
            typed(backed, plan, monkeypatch)


def test_s4_an_overwrite_swaps_the_database_that_it_restored(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that takes the name between the steps is not swapped, even if it has the same comment."""
    plan = restores.overwrite(backed.database, backed.backups, name=BACKUP)
    old_oid = oids(server)[LIVE]

    def rename(line: str) -> None:
        if line == "step 2 of 2":
            execute(server, "ALTER DATABASE xai_blockchain_restored_1 RENAME TO moved",
                "CREATE DATABASE xai_blockchain_restored_1 OWNER xai_owner",
                f"COMMENT ON DATABASE xai_blockchain_restored_1 IS 'restored from {BACKUP}'")  # fmt: skip

    outcome = typed(backed, plan, monkeypatch, rename)
    assert outcome.status == "unknown" and "as planned" in outcome.summary, outcome
    assert oids(server)[LIVE] == old_oid
    with a_person(monkeypatch):
        reconcile(backed, outcome.entry, status="failed", why="looked")


def test_s4_an_undo_swaps_the_same_databases_or_is_refused(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_database(server, "proof")
    old_oids = oids(server)
    outcome = typed(backed, restores.swap(backed.database, restored="proof"), monkeypatch)
    assert outcome.status == "done", outcome
    execute(server, "ALTER DATABASE xai_blockchain_before_1 RENAME TO moved")
    create_database(server, "xai_blockchain_before_1")
    undo_plan = undo(backed, outcome.entry)
    assert not undo_plan.steps and "is another database now" in undo_plan.refused
    execute(server, "DROP DATABASE xai_blockchain_before_1", "ALTER DATABASE moved RENAME TO xai_blockchain_before_1")
    assert typed(backed, undo(backed, outcome.entry), monkeypatch).status == "done"
    assert oids(server) == old_oids


def test_s4_the_undo_of_an_overwrite(server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    old_oid = oids(server)[LIVE]
    outcome = typed(backed, restores.overwrite(backed.database, backed.backups, name=BACKUP), monkeypatch)
    assert outcome.status == "done" and outcome.observed[0]["oid"] == str(oids(server)[LIVE]) != str(old_oid)
    undo_plan = undo(backed, outcome.entry)
    assert str(old_oid) in undo_plan.steps[0].argv  # type: ignore[union-attr]
    assert typed(backed, undo_plan, monkeypatch).status == "done"
    assert oids(server)[LIVE] == old_oid


# --- P16: after the rename the database exists --------------------------------------------------------------------


def test_p16_a_restore_that_cannot_be_recorded_leaves_nothing(server: Server, backed: Environment) -> None:
    """The record for the swap is written before the rename, so a failure leaves nothing."""
    noted = backed.backups.folder / restore_into.RESTORED
    noted.unlink(missing_ok=True)
    noted.mkdir()
    try:
        with step_process(
            backed, restores.restore(backed.database, backed.backups, name=BACKUP, into="proof")
        ) as process:
            code, output = result_of(process)
    finally:
        noted.rmdir()
    assert code == 1 and "Is a directory" in output, output
    assert set(oids(server)) == {"postgres", LIVE}


def test_p16_an_interruption_after_the_rename_is_an_effect(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rename = restore_into._give_name

    def ends(*arguments: Any) -> list[str]:
        rename(*arguments)
        raise Terminated("SIGTERM")

    monkeypatch.setattr(restore_into, "_give_name", ends)
    plan = restores.restore(backed.database, backed.backups, name=BACKUP, into="proof")
    assert in_process(backed, plan, monkeypatch) == 3
    assert f"proof exists and is complete, from {BACKUP}" in capsys.readouterr().out
    assert "proof" in oids(server)


def test_p16_an_interruption_after_commit_is_an_effect(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_database(server, "proof")
    plan = restores.swap(backed.database, restored="proof")
    backed.database.close()
    opened = restore_into.session

    @contextmanager
    def ends(**arguments: Any) -> Iterator[Any]:
        with opened(**arguments) as session:
            yield session
            raise Terminated("SIGTERM")

    before = oids(server)
    monkeypatch.setattr(restore_into, "session", ends)
    assert in_process(backed, plan, monkeypatch) == 3
    assert "the answer to COMMIT was lost" in capsys.readouterr().out
    assert oids(server)[LIVE] == before["proof"]


def in_process(env: Environment, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the plan's first step in this process, where it can be interrupted, and return its exit code."""
    (step, *_) = plan.steps
    assert step.kind == "command"
    with write_access(), role_environment(step.roles, env.settings) as variables, monkeypatch.context() as patch:
        for name, value in {**variables, **step.environment}.items():
            patch.setenv(name, value)
        return program.main(list(step.argv[3:]))


def test_p21_a_settings_value_is_not_shown_where_it_differs(server: Server, backed: Environment) -> None:
    from functools import partial

    from xai_runbook.sandbox.components import postgres_template

    for name in ("first", "second"):
        create_database(server, name)
    execute(server, "ALTER DATABASE first SET my.token = 'hunter2'", "ALTER DATABASE second SET my.token = 'hunter3'",
        "ALTER DATABASE first SET my.lost = 'hunter4'", "ALTER DATABASE second SET my.more = 'hunter5'",
        "ALTER ROLE xai_app IN DATABASE first SET my.own = 'hunter6'")  # fmt: skip
    with postgres_template.connect(server.data, server.port, "postgres") as session:
        found = database_properties.differences(partial(fetch_rows, session), "first", "second")
    assert found == [
        "without setting my.lost", "without setting my.own of role xai_app", "with setting my.more",
        "another value of setting my.token",
    ]  # fmt: skip


# --- S7: what is expected did not hold before ---------------------------------------------------------------------


def test_s7_an_overwrite_with_the_live_backup_is_not_done_yet(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live database was restored from that backup; another overwrite with it still has something to do."""
    plan = restores.overwrite(backed.database, backed.backups, name=BACKUP)
    assert typed(backed, plan, monkeypatch).status == "done"
    plan = restores.overwrite(backed.database, backed.backups, name=BACKUP)
    assert plan.expected is not None and not holds(backed, plan.expected)[0]
    number = journal_of(backed).append("intent", digest="x", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    reconciled = reconcile(backed, number)
    assert reconciled.status == "failed" and "so it had no lasting effect" in reconciled.summary
    outcome = typed(backed, restores.overwrite(backed.database, backed.backups, name=BACKUP), monkeypatch)
    assert outcome.status == "done"
    time.sleep(0.2)


def test_s7_reconcile_sees_that_a_swap_happened(server: Server, backed: Environment) -> None:
    """The plan's own database has another oid now, as expected."""
    create_database(server, "proof")
    plan = restores.swap(backed.database, restored="proof")
    number = journal_of(backed).append("intent", digest="y", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    backed.database.close()
    with step_process(backed, plan) as process:
        code, output = result_of(process)
    assert code == 0, output
    assert reconcile(backed, number).summary == "the expected condition holds now"


def test_s7_what_is_expected_must_not_hold_before_the_change(
    backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verified backup does not fulfil the plan before it was verified again."""
    plan = dumps.verify(backed.backups, name=BACKUP)
    assert plan.expected is not None and not holds(backed, plan.expected)[0]
    assert done(backed, plan).status == "done"
    assert holds(backed, plan.expected)[0], "it holds afterwards"
    from dataclasses import replace

    fulfilled = replace(plan, expected=dumps.dump(backed.database, backed.backups).expected, steps=plan.steps)
    fulfilled = replace(fulfilled, expected=replace(fulfilled.expected, arguments={"name": BACKUP}))  # type: ignore[type-var]
    skipped = skip_if_fulfilled(backed, fulfilled)
    assert not skipped.steps and skipped.note.startswith("there is nothing to do, this already holds")
    monkeypatch.setattr("xai_runbook.changes.registry.make_plan", lambda *_: fulfilled)
    with backed_up.a_person(monkeypatch), pytest.raises(Refused, match="there is nothing to do"):
        apply(fulfilled, backed, confirm=fulfilled.confirmation)


def test_s7_reconcile_checks_for_an_unchanged_system_first(backed: Environment) -> None:
    """If the same plan can be made again, nothing of it has happened, whatever the expectation says."""
    plan = statements.analyze(backed.database, statement="SELECT 1")
    assert plan.expected is not None and holds(backed, plan.expected)[0], "it has no effect, so this always holds"
    number = journal_of(backed).append("intent", digest="a", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    assert reconcile(backed, number).status == "failed"
