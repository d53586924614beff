"""Outcomes of applying a plan: done, failed or unknown, on real PostgreSQL and with real programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.changing import Session, lives, with_journal
from tests.support.pace import stretched
from tests.support.started import eventually, start, started
from tests.support.written_plans import written
from xai_runbook import apply
from xai_runbook.changes import registry
from xai_runbook.changes.apply import progress_display
from xai_runbook.changes.interrupts import DeferredInterrupt
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.journals import journal_of, unchecked_journal
from xai_runbook.changes.preflight import target
from xai_runbook.changes.reconcile import reconcile, undo
from xai_runbook.changes.steps import execute
from xai_runbook.changes.steps.execute import StepRunner
from xai_runbook.changes.steps.result import OutcomeUnknown
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, JournalError, NotConfigured, Refused, SettingsError, Unreachable
from xai_runbook.model.outcome import MIME_TYPE, Outcome
from xai_runbook.model.plans import Call, Command, Condition, Plan, Sql
from xai_runbook.model.secret import write_access
from xai_runbook.operations.database import sessions as database
from xai_runbook.operations.monitoring import alert_rehearsal
from xai_runbook.sandbox.components import postgres, programs
from xai_runbook.sandbox.supervisor.component import Layout, free_ports
from xai_runbook.settings import loading
from xai_runbook.system import sandbox_state

Opens = Callable[..., Session]
NO_SESSION = Sql(
    name="terminate_session", parameters={"pid": "1", "backend_start": "2026-01-01T00:00:00+00:00"}, equivalent=""
)
"""A statement for a session that does not exist."""


def carried_out(plan: Plan, env: Environment, **more: Any) -> Outcome:
    outcome = apply(plan, env, **{"confirm": plan.confirmation, **more})
    assert isinstance(outcome, Outcome)
    entry = journal_of(env).entries()[-1]
    assert (entry.number, entry.status) == (outcome.entry, outcome.status)
    assert entry.outcome is not None and entry.outcome["summary"] == outcome.summary
    return outcome


def at(place: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A progress function that acts at the message that begins with `place`: before a step, before the final check."""

    def progress(message: str) -> None:
        if message.startswith(place):
            act()

    return progress


def gone(session: Session, env: Environment) -> None:
    """Ends a session from the client's side, and waits until the server knows."""
    pid = session.info.backend_pid
    session.close()
    while env.database.rows("sessions_by_pid", {"pids": [pid]}):
        time.sleep(0.01)


def terminate(env: Environment, *sessions: Session) -> Plan:
    return database.terminate(env.database, pids=sorted(session.info.backend_pid for session in sessions))


def in_order(*sessions: Session) -> list[Session]:
    return sorted(sessions, key=lambda session: session.info.backend_pid)


# done


@pytest.mark.usefixtures("terminal")
def test_sessions_are_ended_and_the_condition_holds(here: Environment, session: Opens, journal: Journal) -> None:
    victims, other = [session(), session()], session()
    plan = terminate(here, *victims)
    messages: list[str] = []
    outcome = carried_out(plan, here, reason="INC-1\x1b[31m", progress=messages.append)
    assert outcome.status == "done" and outcome.observed == ({"left_count": "0"},) and outcome.exit_code == 0
    assert [lives(victim) for victim in victims] == [False, False] and lives(other)
    assert messages == ["step 1 of 2", "step 2 of 2", "checking the expected condition"]
    intent = journal.entries()[0].intent
    assert intent["reason"] == "INC-1\N{REPLACEMENT CHARACTER}[31m" and intent["target"] == target(plan)
    assert Plan.from_json(intent["plan"]) == plan and intent["digest"] == plan.digest
    assert "cannot be undone" in str(outcome) and "DONE (journal entry 1)" in str(outcome)


@pytest.mark.usefixtures("terminal")
def test_a_statement_is_cancelled_and_its_session_stays(here: Environment, session: Opens) -> None:
    victim = session()
    ended: list[BaseException] = []

    def sleeps() -> None:
        try:
            victim.execute("SELECT pg_sleep(60)")
        except psycopg.Error as error:
            ended.append(error)

    thread = threading.Thread(target=sleeps)
    thread.start()
    pid = victim.info.backend_pid
    eventually(lambda: here.database.rows("statements_by_pid", {"pids": [pid]}))
    outcome = carried_out(database.cancel(here.database, pids=[pid]), here)
    thread.join(10)
    assert outcome.status == "done" and isinstance(ended[0], psycopg.errors.QueryCanceled) and lives(victim)


@pytest.mark.usefixtures("terminal")
def test_another_thread_may_apply_too(here: Environment, session: Opens) -> None:
    victim, outcomes = session(), []
    plan = terminate(here, victim)
    thread = threading.Thread(target=lambda: outcomes.append(carried_out(plan, here)))
    thread.start()
    thread.join(30)
    assert outcomes[0].status == "done"


@pytest.mark.usefixtures("terminal")
def test_an_intent_is_on_disk_before_the_act(
    here: Environment, session: Opens, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[str, int]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        kept.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))

    def look() -> None:
        assert journal.records()[-1]["kind"] == "intent"
        on_disk.append((str(journal.path), journal.path.stat().st_size) in kept)

    on_disk: list[bool] = []
    monkeypatch.setattr(os, "fsync", noted)
    carried_out(terminate(here, session()), here, progress=at("step 1", look))
    assert on_disk == [True]


# failed: certainly no effect


@pytest.mark.usefixtures("terminal")
def test_a_session_that_ended_after_the_checks_is_left_alone(here: Environment, session: Opens) -> None:
    victim = session()
    plan = terminate(here, victim)
    outcome = carried_out(plan, here, progress=at("step 1", lambda: gone(victim, here)))
    assert outcome.status == "failed" and outcome.exit_code == 1
    assert outcome.summary == "nothing was done: step 1 of 1: the server found its target changed, and did nothing"
    assert "undo" not in str(outcome)


@pytest.mark.parametrize("name", ["terminate_session", "cancel_statement"])
@pytest.mark.usefixtures("acting")
def test_a_later_session_with_the_same_number_is_another(here: Environment, session: Opens, name: str) -> None:
    """Compare and set in the statement itself: one wrong fact is enough."""
    victim = session()
    victim.pgconn.send_query(b"SELECT pg_sleep(30)")
    pid = victim.info.backend_pid
    plan = eventually(lambda: database.cancel(here.database, pids=[pid]))
    right = {key: plan.observed[0][key] for key in ("pid", "backend_start", "query_start")}
    runner = StepRunner(here)
    runner.open(plan.identity, plan.parts)
    try:
        for key in ("backend_start",) if name == "terminate_session" else ("backend_start", "query_start"):
            wrong = Sql(name=name, parameters=right | {key: "2026-01-01T00:00:00.000001+00:00"}, equivalent="")
            done = runner.run(wrong, print, DeferredInterrupt())
            assert not done.had_effect and "did nothing" in done.summary
        other = Sql(name=name, parameters=right | {"pid": str(os.getpid())}, equivalent="")
        assert not runner.run(other, print, DeferredInterrupt()).had_effect
        assert here.database.rows("statements_by_pid", {"pids": [pid]}), "it still runs"
        assert runner.run(Sql(name=name, parameters=right, equivalent=""), print, DeferredInterrupt()).had_effect
    finally:
        runner.close()


@pytest.mark.usefixtures("terminal")
def test_what_the_server_does_not_allow_has_no_effect(here: Environment, session: Opens, journal: Journal) -> None:
    """A role that sees all sessions, and may not end those of others."""
    operator = here.settings.database.operator  # type: ignore[union-attr]
    where = here.settings.database
    assert where is not None and operator is not None and operator.password is not None
    monitor = {"user": where.user, "password": where.password}
    as_monitor = with_journal(here, journal, database={"operator": monitor})
    with write_access():
        password = operator.password.reveal()
    with psycopg.connect(
        host=where.host, port=where.port, dbname=where.dbname, user=operator.user, password=password, autocommit=True
    ) as victim:
        outcome = carried_out(terminate(as_monitor, victim), as_monitor)
        assert outcome.status == "failed" and "nothing was done: step 1 of 1: the server refused" in outcome.summary
        assert lives(victim)
    as_monitor.database.close()


# unknown: a partial effect, or an effect that cannot be determined


@pytest.mark.usefixtures("terminal")
def test_several_targets_stop_at_the_first_error(here: Environment, session: Opens) -> None:
    first, second, third = in_order(session(), session(), session())
    plan = terminate(here, first, second, third)
    outcome = carried_out(plan, here, progress=at("step 2", lambda: gone(second, here)))
    assert outcome.status == "unknown" and outcome.exit_code == 3
    assert "1 of 3 steps took effect: step 2 of 3: the server found its target changed" in outcome.summary
    assert not lives(first) and lives(third)
    assert f"xai-runbook journal reconcile {outcome.entry}" in str(outcome)


@pytest.mark.usefixtures("terminal")
def test_a_stop_file_holds_between_steps(here: Environment, session: Opens, journal: Journal) -> None:
    first, second = in_order(session(), session())
    stop = at("step 1", lambda: journal.stop_file.write_text("INC-2\n"))
    outcome = carried_out(terminate(here, first, second), here, progress=stop)
    assert outcome.status == "unknown" and "1 of 2 steps took effect: changes are stopped: INC-2" in outcome.summary
    assert not lives(first) and lives(second)


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_is_heard_between_steps(here: Environment, session: Opens) -> None:
    first, second = in_order(session(), session())
    pressed = at("step 1", lambda: signal.raise_signal(signal.SIGINT))
    try:
        outcome = carried_out(terminate(here, first, second), here, progress=pressed)
    except KeyboardInterrupt:
        pytest.fail("the outcome was lost")
    assert outcome.status == "unknown" and outcome.interrupted and outcome.exit_code == 130
    assert "1 of 2 steps took effect: interrupted by Ctrl-C before step 2 of 2" in outcome.summary
    assert not lives(first) and lives(second)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("terminal")
def test_ctrl_c_during_the_final_check_keeps_the_outcome(here: Environment, session: Opens) -> None:
    pressed = at("checking", lambda: signal.raise_signal(signal.SIGINT))
    outcome = carried_out(terminate(here, session()), here, progress=pressed)
    assert (outcome.status, outcome.interrupted) in (("done", False), ("unknown", True))


@pytest.mark.usefixtures("terminal")
def test_a_condition_that_is_late_is_unknown_until_reconciled(here: Environment, session: Opens) -> None:
    """A stopped backend takes the signal and does not end."""
    victim = session()
    plan, pid = terminate(here, victim), victim.info.backend_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        outcome = carried_out(plan, here)
        assert outcome.status == "unknown" and outcome.observed == ({"left_count": "1"},)
        assert "1 of 1 steps took effect: the expected condition did not hold within 5 s" in outcome.summary
        again = database.terminate(here.database, pids=[pid])
        with pytest.raises(Refused, match=f"is unknown \\(journal entry {outcome.entry}"):
            apply(again, here, confirm=again.confirmation)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not here.database.rows("sessions_by_pid", {"pids": [pid]}))
    looked = reconcile(here, outcome.entry)
    assert looked.status == "done" and looked.summary == "the expected condition holds now"
    with pytest.raises(InputError, match="is known: done"):
        reconcile(here, outcome.entry)


def cut_off(here: Environment, superuser: Any) -> None:
    """Ends the session that applies: the connection is lost right before the statement is sent."""
    superuser.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'xai-runbook apply'"
    )


@pytest.fixture
def superuser(sandbox: dict[str, Any]) -> Iterator[Any]:
    from xai_runbook.sandbox.components import postgres_template

    where = Path(os.environ["XAI_RUNBOOK_SANDBOX"]) / "postgres" / "data"
    with postgres_template.connect(where, sandbox["overlay"]["database"]["port"], "xai_blockchain") as connection:
        yield connection


@pytest.mark.usefixtures("terminal")
def test_a_lost_connection_is_unknown_and_never_retried(here: Environment, session: Opens, superuser: Any) -> None:
    victim = session()
    outcome = carried_out(terminate(here, victim), here, progress=at("step 1", lambda: cut_off(here, superuser)))
    assert outcome.status == "unknown" and "the connection was lost during the statement" in outcome.summary
    assert lives(victim), "nothing is sent a second time"
    looked = reconcile(here, outcome.entry)
    assert looked.status == "failed" and "the same plan can be made again" in looked.summary
    assert carried_out(terminate(here, victim), here).status == "done", "the target is free again"


@pytest.mark.usefixtures("terminal")
def test_a_fulfilled_condition_after_a_lost_answer_is_unknown(
    here: Environment, session: Opens, superuser: Any
) -> None:
    victim = session()
    plan = terminate(here, victim)

    def lost_and_gone() -> None:
        cut_off(here, superuser)
        gone(victim, here)

    outcome = carried_out(plan, here, progress=at("step 1", lost_and_gone))
    assert outcome.status == "unknown" and "the expected condition holds now" in outcome.summary


@pytest.mark.usefixtures("terminal")
def test_a_person_decides_if_the_state_is_neither_old_nor_expected(
    here: Environment, session: Opens, superuser: Any
) -> None:
    first, second = in_order(session(), session())
    outcome = carried_out(terminate(here, first, second), here, progress=at("step 2", lambda: cut_off(here, superuser)))
    assert outcome.status == "unknown"
    looked = reconcile(here, outcome.entry)
    assert looked.status == "unknown" and "the same change cannot be planned now" in looked.summary
    assert journal_of(here).entries()[-1].status == "unknown"
    with pytest.raises(InputError, match="given by a person needs a reason"):
        reconcile(here, outcome.entry, status="failed", why=" ")
    decided = reconcile(here, outcome.entry, status="done", why="I looked\x1b")
    assert decided.status == "done" and decided.summary == "according to a person: I looked\N{REPLACEMENT CHARACTER}"
    assert journal_of(here).entries()[-1].status == "done"


def test_a_state_that_is_neither_old_nor_expected_is_unknown(
    here: Environment, session: Opens, journal: Journal
) -> None:
    plan = replace(terminate(here, session()), verb="end")  # as another version would have planned it
    journal.append("intent", plan=plan.to_json(), target=target(plan), digest="a")
    assert "the system has changed since the plan was made" in reconcile(here, 1).summary
    down = with_journal(here, journal, database={"host": "127.0.0.1", "port": 1})
    never = Condition(query="monitoring.loads", arguments={}, column="running", comparison="==", value="99")
    journal.append("intent", plan=written(expected=never).to_json(), target="", digest="b")
    looked = reconcile(down, 2)
    assert looked.status == "unknown" and "cannot be planned, because the connection was refused" in looked.summary


def test_reconcile_refuses_other_entries(here: Environment, journal: Journal) -> None:
    with pytest.raises(InputError, match="has no entry 1"):
        reconcile(here, 1)
    journal.append("intent", plan=written(environment="production").to_json(), target="x", digest="x")
    with pytest.raises(Refused, match="belongs to environment 'production'"):
        reconcile(here, 1)


@pytest.mark.usefixtures("acting", "terminal")
def test_a_session_that_still_acts_blocks_its_target(
    here: Environment, session: Opens, journal: Journal, superuser: Any
) -> None:
    """An apply that was killed leaves a session that may still act: it holds the server's lock."""
    victim = session()
    plan = terminate(here, victim)
    journal.append("intent", plan=plan.to_json(), target=target(plan), digest=plan.digest)
    killed = StepRunner(here)
    killed.open(plan.identity, plan.parts)
    try:
        with pytest.raises(Refused, match="locked by another apply, seen in the database itself"):
            reconcile(here, 1)
        elsewhere = with_journal(here, Journal(journal.folder.parent / "another"))
        with pytest.raises(Refused, match="locked by another apply, seen in the database itself"):
            apply(plan, elsewhere, confirm=plan.confirmation)
        elsewhere.database.close()
    finally:
        killed.close()
    eventually(lambda: reconcile(here, 1).status == "failed")


@pytest.mark.usefixtures("acting")
def test_the_operator_must_reach_the_same_server(here: Environment) -> None:
    identity = {f"database.{key}": value for key, value in here.database.identity().items()}
    for key in identity:
        runner = StepRunner(here)
        try:
            with pytest.raises(Refused, match="the operator connects to another server or database"):
                runner.open(identity | {key: "7"}, {})
        finally:
            runner.close()


def test_a_runner_without_a_database_sends_nothing(here: Environment) -> None:
    runner = StepRunner(here)
    runner.open({"prometheus.url": "x"}, {})
    done = runner.run(Sql(name="terminate_session", parameters={}, equivalent=""), print, DeferredInterrupt())
    assert not done.had_effect and done.summary == "the plan names no database"
    runner.close()


@pytest.mark.usefixtures("terminal")
def test_an_outcome_that_cannot_be_written_counts_as_unknown(
    here: Environment, session: Opens, journal: Journal
) -> None:
    head = journal.folder / "head.json"
    kept = b""

    def damage() -> None:
        nonlocal kept
        kept = head.read_bytes()
        head.write_bytes(b"")

    plan = terminate(here, session())
    with pytest.raises(
        JournalError, match=r"the plan was carried out, but its outcome could not be written: terminate session"
    ):
        apply(plan, here, confirm=plan.confirmation, progress=at("checking", damage))
    head.write_bytes(kept)
    assert journal.entries()[-1].status == "unknown"
    assert reconcile(here, 1).status == "done"


@pytest.mark.usefixtures("terminal")
def test_progress_that_breaks_does_not_end_a_change(here: Environment, session: Opens) -> None:
    def breaks(message: str) -> None:
        raise BrokenPipeError(message)

    assert carried_out(terminate(here, session()), here, progress=breaks).status == "done"


# a server that dies


@pytest.fixture
def own(tmp_path: Path, journal: Journal) -> Iterator[tuple[Environment, Layout, dict[str, Any]]]:
    """A PostgreSQL of the test's own, to be killed."""
    if programs.find("postgres") is None:
        pytest.skip("no PostgreSQL to be found")
    layout = Layout(tmp_path / "run", sandbox_state.cache_folder(), free_ports(["postgres"]))
    layout.folder.mkdir()
    (part,) = postgres.parts(layout)
    with started(layout, [part]) as running:
        assert part.finish is not None
        part.finish()
        nowhere = Environment(loading.load("sandbox"))
        yield with_journal(nowhere, journal, database=postgres.overlay(layout)), layout, running


@pytest.mark.usefixtures("terminal")
def test_a_server_that_is_killed_leaves_an_unknown_until_it_is_back(
    own: tuple[Environment, Layout, dict[str, Any]],
) -> None:
    env, layout, running = own
    role = layout.role("app")
    victim = psycopg.connect(
        host=layout.host, port=layout.ports["postgres"], dbname=layout.database, user=role.name,
        password=role.password(), autocommit=True,
    )  # fmt: skip
    plan = terminate(env, victim)

    def kill() -> None:
        running["postgres"].kill()
        running["postgres"].wait(10)
        # its children notice by themselves that it is gone
        eventually(lambda: not lives(victim))

    outcome = carried_out(plan, env, progress=at("step 1", kill))
    assert outcome.status == "unknown" and "the connection was lost" in outcome.summary and outcome.observed == ()
    looked = reconcile(env, outcome.entry)
    assert looked.status == "unknown" and "the current state is unknown" in looked.summary
    assert not database.terminate(env.database, pids=[1]).steps, "what cannot be planned is a refused plan"
    (part,) = postgres.parts(layout)
    start(layout, part, running)
    # all sessions of that server ended with it
    eventually(lambda: reconcile(env, outcome.entry).summary == "the expected condition holds now")
    assert journal_of(env).entries()[-1].status == "done"
    victim.close()


# programs


def program(*argv: str, seconds: str = "20s") -> Command:
    return Command(argv=("python", "-c", *argv), environment={"GIVEN": "yes"}, seconds=seconds, equivalent="")


def ran(step: Command, interrupt: DeferredInterrupt | None = None) -> tuple[execute.StepResult, list[str]]:
    messages: list[str] = []
    return execute._run_program(step, {}, messages.append, interrupt or DeferredInterrupt()), messages


def test_a_program_that_succeeds_had_its_effect() -> None:
    done, messages = ran(program("print('one\\ntwo \\x1b')"))
    assert done.had_effect and done.summary == "two \N{REPLACEMENT CHARACTER}" and messages == [done.summary]
    assert ran(program("pass"))[0].summary == "done"


def test_a_program_that_fails_had_no_effect() -> None:
    done, _ = ran(program("import sys; print('no room'); sys.exit(5)"))
    assert not done.had_effect and not done.leftover and done.summary == "it ended with exit code 5: no room"
    with pytest.raises(OutcomeUnknown, match="no room"):  # exit code of a program of unknown effect
        ran(program(f"import sys; print('no room'); sys.exit({execute.EXIT_UNKNOWN})"))
    done, _ = ran(replace(program(), argv=("/no/such/program",)))
    assert not done.had_effect and "/no/such/program could not be started: No such file" in done.summary


def test_a_program_has_a_deadline() -> None:
    started_at = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="it did not end within 500ms and was stopped"):
        ran(program("import time; time.sleep(8)", seconds="500ms"))
    assert time.monotonic() - started_at < stretched(6)


def test_a_program_ends_with_ctrl_c_and_its_children_with_it() -> None:
    """Even if they ignore the signal."""
    stubborn = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    messages: list[str] = []
    with DeferredInterrupt() as interrupt:

        def note(message: str) -> None:
            messages.append(message)
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(OutcomeUnknown, match="interrupted by Ctrl-C and stopped"):
            execute._run_program(program(stubborn), {}, note, interrupt)
    eventually(lambda: not alive(int(messages[0])))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_program_that_ends_leaves_no_child() -> None:
    parent = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], stdout=-3).pid)"
    )
    done, _ = ran(program(parent))
    assert done.had_effect
    try:
        eventually(
            lambda: not alive(int(done.summary))
        )  # which takes long on a busy machine, and less than its own life
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(done.summary), signal.SIGKILL)


def test_a_program_gets_no_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_DATABASE__PASSWORD", "env:XAI_DATABASE_PASSWORD")
    monkeypatch.setenv("XAI_DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    done, _ = ran(program("import os; print(*sorted(os.environ))"))
    allowed = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "GIVEN", "XAI_RUNBOOK_PARENT", "LC_CTYPE"}
    assert set(done.summary.split()) <= allowed and "GIVEN" in done.summary


# which functions may be called


def test_an_imported_function_is_not_the_modules_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_rehearsal, "terminate", database.terminate, raising=False)
    with pytest.raises(Refused, match="there is no change"):
        registry.find_change("monitoring.terminate")


def test_names_outside_are_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "xai_runbook.sandbox.faults.load", raising=False)
    for name in ("xai_runbook.sandbox.faults.load.main", "sandbox.main", "load.main"):
        with pytest.raises(Refused, match="there is no change"):
            registry.find_change(name)
    assert "xai_runbook.sandbox.faults.load" not in sys.modules


# secrets and credentials


def test_secrets_are_looked_up_by_apply_alone(here: Environment, session: Opens, journal: Journal) -> None:
    unset = with_journal(here, journal, database={"operator": {"user": "xai_operator", "password": "env:NOT_SET"}})
    victim = session()
    plan = terminate(unset, victim)
    assert str(plan) and plan._repr_html_() and apply(plan, unset) is plan
    master, slave = os.openpty()
    with os.fdopen(slave) as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        with pytest.raises(SettingsError, match=r"secret is empty or not set \(env:NOT_SET\)"):
            apply(plan, unset, confirm=plan.confirmation)
    os.close(master)
    assert lives(victim) and journal.records() == []
    unset.database.close()


def test_only_execution_asks_for_the_operator(checkout: Path) -> None:
    asks = {
        path.relative_to(checkout).as_posix()
        for folder in ("xai_runbook", "notebooks")
        for path in (checkout / folder).rglob("*.*")
        if path.suffix in (".py", ".ipynb") and ".operator()" in path.read_text(encoding="utf-8")
    }
    assert asks == {"xai_runbook/changes/steps/execute.py"}


@pytest.mark.usefixtures("terminal")
def test_no_secret_is_in_what_is_left_behind(here: Environment, session: Opens, journal: Journal) -> None:
    where = here.settings.database
    assert where is not None and where.operator is not None and where.operator.password and where.password
    plan = terminate(here, session())
    outcome = carried_out(plan, here)
    left = [path.read_bytes() for path in journal.folder.rglob("*") if path.is_file()]
    left += [plan.file(), str(plan).encode(), plan._repr_html_().encode(), str(outcome).encode(), repr(here).encode()]
    left += [json.dumps(outcome._repr_mimebundle_()).encode(), repr(here.settings).encode()]
    assert b"terminate_session" in b"".join(left)
    with write_access():
        secrets = (where.operator.password.reveal(), where.password.reveal())
    for secret in secrets:
        assert secret.encode() not in b"".join(left)


def test_undo_is_a_plan_or_an_error(here: Environment, journal: Journal) -> None:
    back = Call.of(alert_rehearsal.end_load)
    journal.append("intent", plan=written(undo=back).to_json(), target="x", digest="x")
    assert undo(here, 1).note == "no provoked load is running"
    journal.append("intent", plan=written().to_json(), target="x", digest="y")
    with pytest.raises(Refused, match="no plan to undo it: cannot be undone"):
        undo(here, 2)


@pytest.mark.parametrize("status", ["done", "failed", "unknown"])
def test_an_outcome_shows_itself(status: Any) -> None:
    rows = tuple({"left_count": f"<b>{n}"} for n in range(20))
    outcome = Outcome(status=status, entry=7, summary="<script>", observed=rows, undo_hint="xai-runbook undo 7")
    shown = outcome._repr_mimebundle_()
    assert json.dumps(shown[MIME_TYPE]) == json.dumps(outcome.to_json())
    assert "<script>" not in shown["text/html"] and "<b>" not in shown["text/html"]
    assert shown["text/plain"] == str(outcome) and str(outcome).count("observed:") == 10
    assert ("undo 7" in str(outcome)) is (status != "failed")
    assert outcome.exit_code == {"done": 0, "failed": 1, "unknown": 3}[status]


@pytest.mark.usefixtures("acting")
def test_a_lost_answer_is_ambiguous(here: Environment, superuser: Any) -> None:
    runner = StepRunner(here)
    runner.open({f"database.{key}": value for key, value in here.database.identity().items()}, {})
    cut_off(here, superuser)
    with pytest.raises(OutcomeUnknown, match="the connection was lost during the statement"):
        runner.run(NO_SESSION, print, DeferredInterrupt())
    runner.close()


@pytest.mark.usefixtures("acting")
def test_a_server_that_does_not_answer_ends_the_wait(here: Environment, journal: Journal, superuser: Any) -> None:
    """Its backend is stopped: neither its statement_timeout nor a cancel request would end the wait."""
    hasty = with_journal(here, journal, database={"timeout": "500ms"})
    runner = StepRunner(hasty)
    runner.open({f"database.{key}": value for key, value in here.database.identity().items()}, {})
    (pid,) = superuser.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'xai-runbook apply'"
    ).fetchone()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(OutcomeUnknown, match="no whole answer within"):
            runner.run(NO_SESSION, print, DeferredInterrupt())
    finally:
        os.kill(pid, signal.SIGCONT)
        runner.close()
    assert time.monotonic() - began < stretched(5)


@pytest.mark.usefixtures("acting")
def test_nothing_is_sent_by_a_session_that_comes_too_late(here: Environment) -> None:
    operator = here.operator()
    operator._cut()  # as after the deadline
    with pytest.raises(Unreachable):
        operator.rows("identity")
    operator.close()


@pytest.mark.usefixtures("here")
def test_progress_is_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        progress_display()("step 1 of 2")
    assert os.read(master, 100) == b"\r\x1b[Kstep 1 of 2"
    os.close(master)
    progress_display()("no terminal")
    monkeypatch.setattr(sys, "stderr", None)
    progress_display()("no standard error")


def test_no_operator_no_session(nowhere: Environment, journal: Journal) -> None:
    with pytest.raises(NotConfigured):
        with_journal(nowhere, journal, database={"operator": None}).operator()


KERNEL = """
import sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="python3")
manager.start_kernel()
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive(
    open(sys.argv[1]).read(), allow_stdin=True, timeout=60,
    output_hook=lambda message: print(message["content"]), stdin_hook=print,
)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


def test_apply_in_a_notebook_with_a_person(here: Environment, session: Opens, journal: Journal, tmp_path: Path) -> None:
    victim, cell = session(), tmp_path / "cell.py"
    cell.write_text(
        "from xai_runbook import apply, connect\nfrom xai_runbook.operations.database import sessions\n"
        "env = connect('sandbox')\n"
        f"plan = sessions.terminate(env.database, pids=[{victim.info.backend_pid}])\n"
        "apply(plan, env, confirm=plan.confirmation)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KERNEL, str(cell)], capture_output=True, text=True, timeout=120,
        env=os.environ | {"XAI_RUNBOOK_OUTPUTS__JOURNAL": str(journal.folder)}, check=False,
    )  # fmt: skip
    assert MIME_TYPE in done.stdout and "DONE (journal entry 1)" in done.stdout, done.stdout + done.stderr
    assert "step 1 of 1" in done.stdout, "progress is shown"
    assert not lives(victim)


def test_a_relative_journal_is_in_the_users_state_folder(nowhere: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    relative = with_journal(nowhere, Journal(Path("journal")))
    assert unchecked_journal(relative).folder == Path("/home/somebody/.local/state/xai-runbook/journal")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert unchecked_journal(relative).folder == Path("/state/xai-runbook/journal")
    assert unchecked_journal(with_journal(nowhere, Journal(Path("~/j")))).folder == Path("/home/somebody/j")
    assert unchecked_journal(with_journal(nowhere, Journal(Path("/shared/j")))).folder == Path("/shared/j")
