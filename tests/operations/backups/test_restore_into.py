"""What names lead to may change: databases are replaced, put back and looked for by their oids (S4, S7)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support import backed_up
from tests.support.backed_up import doer, done, result_of, typed
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


def put(server: Server, *statements: str) -> None:
    """Does something to databases, from another one, once nobody is in them."""
    from xai_runbook.sandbox.components import postgres_template

    with postgres_template.connect(server.data, server.port, "postgres") as session:
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname <> 'postgres'")
        for statement in statements:
            session.execute(statement.encode())


@pytest.fixture(autouse=True)
def only_the_live_one(server: Server, backed: Environment) -> Iterator[None]:
    """The database that was live before is so afterwards, and no other one stays."""
    was = oids(server)[LIVE]
    yield
    backed.database.close()
    now = oids(server)
    if now.get(LIVE) != was:
        old = next(name for name, oid in now.items() if oid == was)
        put(server, *([f'ALTER DATABASE "{LIVE}" RENAME TO away'] if LIVE in now else []),
            f'ALTER DATABASE "{old}" RENAME TO "{LIVE}"')  # fmt: skip
    put(server, *(f'DROP DATABASE "{name}"' for name in oids(server) if name not in ("postgres", LIVE)))


def another(server: Server, name: str) -> None:
    put(server, f'CREATE DATABASE "{name}" OWNER xai_owner')


# --- S4: renamed between the plan and the act ---------------------------------------------------------------------


@pytest.mark.parametrize("renamed", ["proof", LIVE])
def test_s4_a_swap_of_another_database_under_the_name(server: Server, backed: Environment, renamed: str) -> None:
    """The act itself: whatever was looked at before it, it renames these two databases or none."""
    another(server, "proof")
    plan = restores.swap(backed.database, restored="proof")
    backed.database.close()
    put(server, f'ALTER DATABASE "{renamed}" RENAME TO moved')
    another(server, renamed)
    before = oids(server)
    with doer(backed, plan) as process:
        code, told = result_of(process)
    assert code == 1 and "as planned" in told, told
    assert oids(server) == before


def test_s4_and_apply_refuses_it_before(server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    another(server, "proof")
    swap = restores.swap(backed.database, restored="proof")
    put(server, "ALTER DATABASE proof RENAME TO moved")
    another(server, "proof")
    with pytest.raises(Refused, match="the system has changed"):
        typed(backed, swap, monkeypatch)


def test_s4_no_change_acts_in_another_database_of_the_name(
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
    put(server, f"ALTER DATABASE {LIVE} RENAME TO moved", f"CREATE DATABASE {LIVE} TEMPLATE moved OWNER xai_owner")
    for plan in plans:
        assert plan.steps
        with pytest.raises(Refused, match="another database answers: database_oid was"):
            typed(backed, plan, monkeypatch)


def test_s4_what_was_restored_is_what_takes_the_place(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another database under the name between the two steps of an overwrite: even one from the same backup."""
    plan = restores.overwrite(backed.database, backed.backups, name=BACKUP)
    was = oids(server)[LIVE]

    def rename(words: str) -> None:
        if words == "step 2 of 2":
            put(server, "ALTER DATABASE xai_blockchain_restored_1 RENAME TO moved",
                "CREATE DATABASE xai_blockchain_restored_1 OWNER xai_owner",
                f"COMMENT ON DATABASE xai_blockchain_restored_1 IS 'restored from {BACKUP}'")  # fmt: skip

    outcome = typed(backed, plan, monkeypatch, rename)
    assert outcome.status == "unknown" and "as planned" in outcome.summary, outcome
    assert oids(server)[LIVE] == was
    reconcile(backed, outcome.entry, status="failed", why="looked")


def test_s4_the_way_back_leads_to_the_same_database_or_nowhere(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    another(server, "proof")
    was = oids(server)
    outcome = typed(backed, restores.swap(backed.database, restored="proof"), monkeypatch)
    assert outcome.status == "done", outcome
    put(server, "ALTER DATABASE xai_blockchain_before_1 RENAME TO moved")
    another(server, "xai_blockchain_before_1")
    back = undo(backed, outcome.entry)
    assert not back.steps and "is another database now" in back.refused
    put(server, "DROP DATABASE xai_blockchain_before_1", "ALTER DATABASE moved RENAME TO xai_blockchain_before_1")
    assert typed(backed, undo(backed, outcome.entry), monkeypatch).status == "done"
    assert oids(server) == was


def test_s4_the_way_back_of_an_overwrite(server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    was = oids(server)[LIVE]
    outcome = typed(backed, restores.overwrite(backed.database, backed.backups, name=BACKUP), monkeypatch)
    assert outcome.status == "done" and outcome.observed[0]["oid"] == str(oids(server)[LIVE]) != str(was)
    back = undo(backed, outcome.entry)
    assert str(was) in back.steps[0].argv  # type: ignore[union-attr]
    assert typed(backed, back, monkeypatch).status == "done"
    assert oids(server)[LIVE] == was


# --- P16: once it has its name, it is there -----------------------------------------------------------------------


def test_p16_a_restore_that_cannot_be_noted_leaves_nothing(server: Server, backed: Environment) -> None:
    """What the swap reads is written before the database has its name: "nothing is left" is true then."""
    noted = backed.backups.folder / restore_into.RESTORED
    noted.unlink(missing_ok=True)
    noted.mkdir()
    try:
        with doer(backed, restores.restore(backed.database, backed.backups, name=BACKUP, into="proof")) as process:
            code, told = result_of(process)
    finally:
        noted.rmdir()
    assert code == 1 and "Is a directory" in told, told
    assert set(oids(server)) == {"postgres", LIVE}


def test_p16_interrupted_once_it_has_its_name_it_is_not_called_nothing(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rename = restore_into._give_name

    def ends(*words: Any) -> list[str]:
        rename(*words)
        raise Terminated("SIGTERM")

    monkeypatch.setattr(restore_into, "_give_name", ends)
    plan = restores.restore(backed.database, backed.backups, name=BACKUP, into="proof")
    assert in_process(backed, plan, monkeypatch) == 3
    assert f"proof exists and is complete, from {BACKUP}" in capsys.readouterr().out
    assert "proof" in oids(server)


def test_p16_a_swap_that_is_interrupted_after_commit_is_not_called_nothing(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    another(server, "proof")
    plan = restores.swap(backed.database, restored="proof")
    backed.database.close()
    opened = restore_into.session

    @contextmanager
    def ends(**words: Any) -> Iterator[Any]:
        with opened(**words) as session:
            yield session
            raise Terminated("SIGTERM")

    before = oids(server)
    monkeypatch.setattr(restore_into, "session", ends)
    assert in_process(backed, plan, monkeypatch) == 3
    assert "the answer to COMMIT was lost" in capsys.readouterr().out
    assert oids(server)[LIVE] == before["proof"]


def in_process(env: Environment, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the plan's first step, run here, where it can be interrupted at one place."""
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
        another(server, name)
    put(server, "ALTER DATABASE first SET my.token = 'hunter2'", "ALTER DATABASE second SET my.token = 'hunter3'",
        "ALTER DATABASE first SET my.lost = 'hunter4'", "ALTER DATABASE second SET my.more = 'hunter5'",
        "ALTER ROLE xai_app IN DATABASE first SET my.own = 'hunter6'")  # fmt: skip
    with postgres_template.connect(server.data, server.port, "postgres") as session:
        told = database_properties.differences(partial(fetch_rows, session), "first", "second")
    assert told == [
        "without setting my.lost", "without setting my.own of role xai_app", "with setting my.more",
        "another value of setting my.token",
    ]  # fmt: skip


# --- S7: what is expected was not so before -----------------------------------------------------------------------


def test_s7_an_overwrite_with_what_is_live_already_is_not_done_by_being_so(
    server: Server, backed: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live database came from that backup; the next overwrite with it ends in its first step."""
    plan = restores.overwrite(backed.database, backed.backups, name=BACKUP)
    assert typed(backed, plan, monkeypatch).status == "done"
    plan = restores.overwrite(backed.database, backed.backups, name=BACKUP)
    assert plan.expected is not None and not holds(backed, plan.expected)[0]
    number = journal_of(backed).append("intent", digest="x", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    looked = reconcile(backed, number)
    assert looked.status == "failed" and "nothing of it has happened" in looked.summary
    outcome = typed(backed, restores.overwrite(backed.database, backed.backups, name=BACKUP), monkeypatch)
    assert outcome.status == "done"
    time.sleep(0.2)


def test_s7_a_swap_that_came_about_is_seen_by_reconcile(server: Server, backed: Environment) -> None:
    """It replaced the database that it was planned in: the other oid under that name is what was wanted."""
    another(server, "proof")
    plan = restores.swap(backed.database, restored="proof")
    number = journal_of(backed).append("intent", digest="y", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    backed.database.close()
    with doer(backed, plan) as process:
        code, told = result_of(process)
    assert code == 0, told
    assert reconcile(backed, number).summary == "the expected condition holds now"


def test_s7_nothing_is_expected_that_is_so_already(backed: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of a backup that is verified is no news before it has been verified anew."""
    plan = dumps.verify(backed.backups, name=BACKUP)
    assert plan.expected is not None and not holds(backed, plan.expected)[0]
    assert done(backed, plan).status == "done"
    assert holds(backed, plan.expected)[0], "and is so afterwards"
    from dataclasses import replace

    so = replace(plan, expected=dumps.dump(backed.database, backed.backups).expected, steps=plan.steps)
    so = replace(so, expected=replace(so.expected, arguments={"name": BACKUP}))  # type: ignore[type-var]
    told = skip_if_fulfilled(backed, so)
    assert not told.steps and told.note.startswith("there is nothing to do, this already holds")
    monkeypatch.setattr("xai_runbook.changes.registry.make_plan", lambda *_: so)
    with backed_up.a_person(monkeypatch), pytest.raises(Refused, match="there is nothing to do"):
        apply(so, backed, confirm=so.confirmation)


def test_s7_an_unchanged_world_comes_first(backed: Environment) -> None:
    """Whatever is so: where the same plan can be made again, nothing of it has happened."""
    plan = statements.analyze(backed.database, statement="SELECT 1")
    assert plan.expected is not None and holds(backed, plan.expected)[0], "it leaves nothing, so this is always so"
    number = journal_of(backed).append("intent", digest="a", target="", reason="", environment="sandbox",
                                       plan=plan.to_json())  # fmt: skip
    assert reconcile(backed, number).status == "failed"
