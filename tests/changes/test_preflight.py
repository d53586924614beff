"""Every refusal of `apply`, each with its own message, before anything is done. The first one counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.changing import lives, with_journal
from tests.support.written_plans import FIELDS, made, written
from xai_runbook import apply
from xai_runbook.changes import preflight
from xai_runbook.changes.apply import apply_headless
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.preflight import target
from xai_runbook.changes.target_lock import Lock
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, JournalError, NotConfigured, Refused
from xai_runbook.model.plans import Condition, Plan, Risk
from xai_runbook.operations.database import sessions
from xai_runbook.operations.monitoring import alert_rehearsal


def refused(plan: Plan, env: Environment, **more: Any) -> str:
    """Return the refusal's message, after checking that nothing was done or recorded."""
    with pytest.raises(Refused) as why:
        apply(plan, env, **{"confirm": plan.confirmation, **more})
    journal = Journal(Path(env.settings.outputs.journal))
    assert [record for record in journal.records() if record["kind"] == "intent"] == []
    return str(why.value)


# what needs no server


@pytest.mark.usefixtures("terminal")
def test_an_edited_plan(nowhere: Environment) -> None:
    plan = written()
    assert "edited after it was made" in refused(replace(plan, note="other"), nowhere, digest=plan.digest)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    "name",
    [
        "os.system", "database", "database.", ".terminate", "", "database.change", "database.judge",
        "database.__builtins__", "database.terminate.__wrapped__", "database._sessions", "database.sessions",
        "database..terminate", "nothing.at_all", "changes.apply", "database.MAX_SESSIONS", "backups.terminate",
        "database.sessions.terminate", "xai_runbook.operations.database.sessions.terminate",
    ],
)  # fmt: skip
def test_an_unknown_change(nowhere: Environment, name: str) -> None:
    assert "there is no change" in refused(written(change=name), nowhere)


@pytest.mark.usefixtures("terminal")
def test_an_expired_plan(nowhere: Environment) -> None:
    assert "the plan expired at" in refused(written(**made(601)), nowhere)
    assert "expired" not in refused(written(**made(590)), nowhere)


@pytest.mark.usefixtures("terminal")
def test_a_clock_that_was_set_back(nowhere: Environment) -> None:
    assert "made 60 s in the future" in refused(written(**made(-60)), nowhere)
    assert "wall clock was set by -120 s" in refused(written(**made(180, monotonic_ago=300)), nowhere)


@pytest.mark.usefixtures("terminal")
def test_s16_a_plan_file_cannot_extend_its_own_life(nowhere: Environment) -> None:
    plan = written(**made(27 * 86400) | {"expires_at": "2099-01-01T00:00:00.000000+00:00"})
    assert "the plan expired at" in refused(plan, nowhere)


@pytest.mark.usefixtures("terminal")
def test_a_clock_that_was_set_ahead(nowhere: Environment) -> None:
    assert "wall clock was set by +500 s" in refused(written(**made(500, monotonic_ago=0)), nowhere)
    assert "clock" not in refused(written(**made(500)), nowhere)
    after_a_boot = {**made(500, monotonic_ago=0), "boot": "another-boot 17.000"}
    assert "clock" not in refused(written(**after_a_boot), nowhere), "another boot leaves nothing to compare"


@pytest.mark.usefixtures("terminal")
def test_another_environment(nowhere: Environment) -> None:
    assert "the plan is for environment 'production'" in refused(written(environment="production"), nowhere)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("handle", ["settings", "operator", "__class__", "nothing"])
def test_an_unknown_handle(nowhere: Environment, handle: str) -> None:
    assert "no handle is called" in refused(written(identity={f"{handle}.url": "x"}), nowhere)


@pytest.mark.usefixtures("terminal")
def test_a_second_use(nowhere: Environment, journal: Journal) -> None:
    plan = written()
    journal.append("intent", digest=plan.digest, target="another", plan=plan.to_json())
    journal.append("outcome", entry=1, status="failed", summary="")
    with pytest.raises(Refused, match=r"was applied before, at \S+T\S+ UTC by \w+ \(journal entry 1\)"):
        apply(plan, nowhere, confirm=plan.confirmation)


@pytest.mark.usefixtures("terminal")
def test_a_stop_file(nowhere: Environment, journal: Journal) -> None:
    journal.stop_file.write_text("INC-1: a migration runs\n")
    assert "changes are stopped: INC-1: a migration runs" in refused(written(), nowhere)
    journal.stop_file.unlink()
    journal.stop_file.mkdir()
    assert "the reason cannot be read" in refused(written(), nowhere), "whatever it is, it stops"
    journal.stop_file.rmdir()
    journal.stop_file.symlink_to("nothing")
    assert "changes are stopped" in refused(written(), nowhere), "S23: a dangling link too"


@pytest.mark.usefixtures("terminal")
def test_an_earlier_unknown_outcome(nowhere: Environment, journal: Journal) -> None:
    plan = written()
    journal.append("intent", digest="another", target=target(plan), plan=plan.to_json())
    with pytest.raises(
        Refused,
        match=r"outcome of an earlier change is unknown \(journal entry 1, it ended before its outcome was written\)",
    ):
        apply(plan, nowhere, confirm=plan.confirmation)
    journal.append("outcome", entry=1, status="unknown", summary="the answer was lost")
    with pytest.raises(Refused, match=r"is unknown \(journal entry 1, the answer was lost\).*journal reconcile 1"):
        apply(plan, nowhere, confirm=plan.confirmation)
    journal.append("reconciled", entry=1, status="failed")
    with pytest.raises(Refused) as later:
        apply(plan, nowhere, confirm=plan.confirmation)
    assert "is unknown" not in str(later.value)


@pytest.mark.usefixtures("terminal")
def test_an_unknown_outcome_of_another_target_blocks_nothing(nowhere: Environment, journal: Journal) -> None:
    plan = written()
    other = written(parts={"database 2@here:5432/5": "change"})
    journal.append("intent", digest="another", target=target(other), plan=other.to_json())
    with pytest.raises(Refused) as why:
        apply(plan, nowhere, confirm=plan.confirmation)
    assert "is unknown" not in str(why.value)


@pytest.mark.usefixtures("terminal")
def test_a_target_that_another_apply_has_locked(nowhere: Environment, journal: Journal) -> None:
    plan = written()
    with Lock(journal.folder, plan.parts) as lock:
        lock.report("step 3 of 5")
        message = refused(plan, nowhere)
        user, host = lock._holder["user"], lock._holder["host"]
        assert f"locked by {user}@{host} pid {os.getpid()} since 2" in message and "step 3 of 5" in message
        for path in (journal.folder / "locks").iterdir():
            path.write_bytes(b"rubbish")
        assert "locked by another apply" in refused(plan, nowhere)
    assert "locked" not in refused(plan, nowhere), "it lets go"


@pytest.mark.usefixtures("terminal")
def test_a_lock_that_cannot_be_taken(nowhere: Environment, journal: Journal) -> None:
    (journal.folder / "locks").touch()
    plan = written()
    with pytest.raises(JournalError, match="the target cannot be locked"):
        apply(plan, nowhere, confirm=plan.confirmation)


def test_a_confirmation_without_a_person(nowhere: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as empty:
        monkeypatch.setattr(sys, "stdin", empty)
        assert "no person can have typed" in refused(written(), nowhere)
    assert "no person can have typed" in refused(written(), nowhere), "closed"
    monkeypatch.setattr(sys, "stdin", None)
    assert "no person can have typed" in refused(written(), nowhere)


def test_a_confirmation_in_a_pipe(journal: Journal) -> None:
    code = (
        "from tests.support.written_plans import written; from xai_runbook import apply\n"
        "from xai_runbook.settings import loading\n"
        "from xai_runbook.environment import Environment\n"
        "plan = written()\n"
        "try: apply(plan, Environment(loading.load('sandbox')), confirm=plan.confirmation)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], input="yes\n" * 9, capture_output=True, text=True, check=True)
    assert "Refused no person can have typed" in done.stdout


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("confirm", [1, b"words", ["a"]], ids=str)
def test_a_confirmation_is_text(nowhere: Environment, confirm: Any) -> None:
    with pytest.raises(InputError, match="the confirmation must be text"):
        apply(written(), nowhere, confirm=confirm)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("reason", [None, "x" * 2001], ids=["none", "long"])
def test_a_reason_is_text(nowhere: Environment, reason: Any) -> None:
    with pytest.raises(InputError, match="the reason must be text"):
        apply(written(), nowhere, confirm=written().confirmation, reason=reason)


def test_without_a_confirmation_apply_is_a_preview(nowhere: Environment) -> None:
    plan, nothing = written(), written(steps=(), expected=None)
    assert apply(plan, nowhere) is plan and apply(plan, nowhere, confirm="") is plan
    assert apply(nothing, nowhere, confirm=nothing.confirmation) is nothing


def test_a_plan_that_is_refused_from_the_start(nowhere: Environment) -> None:
    plan = written(steps=(), expected=None, refused="not in production")
    assert apply(plan, nowhere) is plan, "Run All goes on"
    assert "not in production" in refused(plan, nowhere)


@pytest.mark.usefixtures("terminal")
def test_a_server_that_is_down_by_now(nowhere: Environment, journal: Journal) -> None:
    down = with_journal(nowhere, journal, database={"host": "127.0.0.1", "port": 1})
    assert "cannot be planned, because the connection was refused" in refused(written(), down)


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [
        ("==", "10", True), ("==", "10.0", False), ("<=", "10", True), ("<=", "9.99", False), (">=", "10", True),
        (">=", "10.01", False), ("<=", "9007199254740993", True),
    ],
)  # fmt: skip
def test_a_condition_compares_numbers_as_numbers(comparison: Any, value: str, holds: bool) -> None:
    condition = replace(FIELDS["expected"], comparison=comparison, value=value)
    assert preflight._compare("10", condition) is holds
    assert not preflight._compare(None, condition)


# without a person


def test_a_headless_apply_takes_additive_plans_that_the_settings_allow(nowhere: Environment, journal: Journal) -> None:
    plan, additive = written(), written(risk=Risk.ADDITIVE)
    with pytest.raises(Refused, match="risk destructive needs a person"):
        apply_headless(plan, nowhere, digest=plan.digest)
    with pytest.raises(Refused, match="settings do not allow this change without a person"):
        apply_headless(additive, nowhere, digest=additive.digest)
    allowed = with_journal(nowhere, journal, changes={"headless": ["database.terminate"]})
    with pytest.raises(Refused, match="risk destructive needs a person"):
        apply_headless(plan, allowed, digest=plan.digest)
    with pytest.raises(Refused) as later:
        apply_headless(additive, allowed, digest=additive.digest)
    assert "person" not in str(later.value)
    nothing = written(steps=(), expected=None)
    assert apply_headless(nothing, nowhere, digest=nothing.digest) is nothing


# no room


def test_no_room_for_the_intent_for_a_user(journal: Journal) -> None:
    """A file may not grow: as under a quota, the write itself is refused."""
    import resource

    code = (
        "import os, pty, sys; from pathlib import Path; from tests.support.changing import with_journal\n"
        "from tests.support.written_plans import written; from xai_runbook import apply\n"
        "from xai_runbook.settings import loading\n"
        "from xai_runbook.environment import Environment; from xai_runbook.changes.journal import Journal\n"
        "sys.stdin = os.fdopen(pty.openpty()[1])\n"
        "plan, env = written(), Environment(loading.load('sandbox'))\n"
        "env = with_journal(env, Journal(Path(sys.argv[1])), database={'operator': {'user': 'x'}})\n"
        "try: apply(plan, env, confirm=plan.confirmation)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(journal.folder)], capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert "JournalError the journal cannot be written, so nothing was done: File too large" in done.stdout
    assert not journal.path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system that is full")
@pytest.mark.usefixtures("terminal")
def test_no_room_for_the_intent_on_a_full_disk(nowhere: Environment, journal: Journal) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", journal.folder], check=True)
    try:
        journal.create()
        before = sorted(journal.folder.iterdir())
        plan = written()
        (journal.folder / "fill").write_bytes(b"x" * 500_000)
        with pytest.raises(JournalError, match="so nothing was done: No space left on device"):
            apply(plan, nowhere, confirm=plan.confirmation)
        assert sorted(journal.folder.iterdir()) == sorted([*before, journal.folder / "fill"])
    finally:
        subprocess.run(["umount", journal.folder], check=True)


# on real PostgreSQL


@pytest.fixture
def plan(here: Environment, session: Any) -> Plan:
    return sessions.terminate(here.database, pids=[session().info.backend_pid])


@pytest.mark.usefixtures("terminal")
def test_a_wrong_confirmation(here: Environment, plan: Plan) -> None:
    assert "hunter2" not in refused(plan, here, confirm="hunter2"), "what was typed may be a password"
    for typed in (
        "yes",
        plan.confirmation[:-1],
        plan.confirmation.upper(),
        plan.confirmation + " x",
        plan.confirmation.replace("1", "2"),
    ):
        message = refused(plan, here, confirm=typed)
        assert "the confirmation does not match the plan" in message and f"type: {plan.confirmation}" in message


@pytest.mark.usefixtures("terminal")
def test_another_server_behind_the_same_name(here: Environment, plan: Plan, journal: Journal) -> None:
    for name in ("system_identifier", "server_address", "server_port", "database", "database_oid"):
        elsewhere = replace(plan, identity=dict(plan.identity) | {f"database.{name}": "7"})
        what = "database" if name == "database_oid" else "server"
        message = f"another {what} answers: {name} was 7 and is {plan.identity[f'database.{name}']}"
        assert message in refused(elsewhere, here)
    more = replace(plan, identity=dict(plan.identity) | {"database.cluster": "x"})
    assert "another server answers: cluster was x and is None" in refused(more, here)


@pytest.mark.usefixtures("terminal")
def test_a_guard_that_does_not_hold(here: Environment, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Condition(
        query="database.connections", arguments={},
        column="used_ratio", comparison="<=",
        value="0.0001",
    )  # fmt: skip
    terminate = sessions.terminate

    def guarded(*args: Any, **more: Any) -> Plan:
        return replace(terminate(*args, **more), guards=(guard,))

    guarded.__module__, guarded.is_change = "xai_runbook.operations.database.sessions", True  # type: ignore[attr-defined]
    guarded.__signature__ = __import__("inspect").signature(terminate)  # type: ignore[attr-defined]
    monkeypatch.setattr(sessions, "terminate", guarded)
    message = refused(replace(plan, guards=(guard,)), here)
    assert "used_ratio <= 0.0001 (database.connections) does not hold" in message and "used_ratio" in message


@pytest.mark.usefixtures("terminal")
def test_a_session_that_has_ended_since(here: Environment, session: Any) -> None:
    ends = session()
    pid = ends.info.backend_pid
    plan = sessions.terminate(here.database, pids=[pid])
    ends.close()
    while here.database.rows("sessions_by_pid", {"pids": [pid]}):
        time.sleep(0.01)
    message = refused(plan, here)
    assert "the system has changed since the plan was made" in message and str(pid) in message


@pytest.mark.usefixtures("terminal")
def test_a_plan_of_sessions_that_are_others_now(here: Environment, plan: Plan) -> None:
    """The pid is there, its session began at another time: the difference is shown, row by row."""
    row = dict(plan.observed[0])
    before = replace(plan, observed=(row | {"backend_start": "2026-01-01T00:00:00.000001+00:00"},))
    message = refused(before, here)
    assert "the system has changed" in message
    assert "backend_start 2026-01-01T00:00:00.000001+00:00" in message and "is gone or has changed" in message
    assert f"backend_start {row['backend_start']}" in message and "is new or changed" in message


@pytest.mark.usefixtures("terminal")
def test_other_differences_are_named(here: Environment, plan: Plan) -> None:
    assert "verb: 'end' is now 'terminate'" in refused(replace(plan, verb="end"), here)
    assert "is gone or has changed" in refused(replace(plan, arguments={"pids": []}), here)
    many = tuple({"pid": str(n)} for n in range(9))
    assert "and 4 more" in refused(replace(plan, observed=many), here)
    for arguments in ({}, {"pids": "x"}, {"pids": list(range(1, 12))}, {"pids": [1], "sql": "DROP"}):
        assert "cannot be made again" in refused(replace(plan, arguments=arguments), here)


@pytest.mark.usefixtures("terminal")
def test_no_operator_is_configured(here: Environment, journal: Journal, session: Any) -> None:
    without = with_journal(here, journal, database={"operator": None})
    victim = session()
    plan = sessions.terminate(without.database, pids=[victim.info.backend_pid])
    with pytest.raises(NotConfigured, match=r"database\.operator is not configured, so nothing can be changed"):
        apply(plan, without, confirm=plan.confirmation)
    assert lives(victim) and journal.records() == []
    without.database.close()


def test_no_load_is_provoked_in_production(here: Environment, journal: Journal) -> None:
    tables = here.settings.model_dump() | {"production": True, "outputs": {"journal": str(journal.folder)}}
    production = Environment(type(here.settings).model_validate(tables))
    for change in (alert_rehearsal.provoke_cpu, alert_rehearsal.provoke_memory, alert_rehearsal.provoke_disk):
        plan = change(production.sandbox, production.prometheus, production.limits)
        assert not plan.steps and plan.production
        assert "the settings say production, and load is provoked only in the sandbox" in refused(plan, production)
    assert "production" in refused(alert_rehearsal.end_load(production.sandbox), production)


KERNELS = """
import sys
from nbclient import NotebookClient
import nbformat
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(open(sys.argv[1]).read())])
client = NotebookClient(notebook, kernel_name="python3", allow_errors=True)
client.execute()
print([output.get("evalue") or output.get("text") for output in notebook.cells[0].outputs])
"""


def test_a_confirmation_in_a_headless_notebook(tmp_path: Path, checkout: Path) -> None:
    """nbclient, and papermill on top of it, start kernels without standard input."""
    cell = tmp_path / "cell.py"
    cell.write_text(
        f"import sys; sys.path.append({str(checkout)!r})\n"
        "from tests.support.written_plans import written; from xai_runbook import apply\n"
        "from xai_runbook.settings import loading\n"
        "from xai_runbook.environment import Environment; from xai_runbook.changes.apply import apply_headless\n"
        "plan, env = written(), Environment(loading.load('sandbox'))\n"
        "typed = plan.confirmation\n"
        "for attempt in (lambda: apply(plan, env, confirm=typed), lambda: apply_headless(plan, env, digest='')):\n"
        "    try: attempt()\n"
        "    except Exception as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KERNELS, str(cell)], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert "no person can have typed" in done.stdout, done.stdout + done.stderr
    assert "a notebook cannot apply a plan without a person" in done.stdout


def test_the_first_refusal_counts(nowhere: Environment, terminal: int) -> None:
    """In the documented order: the later reasons hold too, and are not reached."""
    wrong = [
        ("there is no change", {"change": "os.system"}),
        ("the plan expired", {}),
        ("in the future", {}),
        ("for environment 'x'", {"environment": "x"}),
        ("another server answers", {"identity": {"prometheus.url": "x"}}),
    ]
    times = [made(-700), {**made(-700), "expires_at": (datetime.now(UTC) - timedelta(1)).isoformat()}]
    for index, (message, _) in enumerate(wrong):
        fields: dict[str, Any] = {}
        for _, more in wrong[index:]:
            fields |= more
        plan = written(**{**(times[1] if index < 2 else times[0] if index < 3 else made()), **fields})
        assert message in refused(plan, nowhere), message
    edited = written(change="os.system")
    assert "edited" in refused(edited, nowhere, digest="x")


def test_changes_and_queries_are_separate(nowhere: Environment) -> None:
    from xai_runbook.changes import registry

    with pytest.raises(Refused, match="there is no query"):
        registry.run_query(nowhere, FIELDS["change"], {"pids": [1]})
    with pytest.raises(Refused, match="there is no query"):
        registry.run_query(nowhere, "os.listdir", {})
    with pytest.raises(Refused, match="there is no query"):
        registry.run_query(nowhere, "database._sessions", {})
    assert "database.terminate" in registry.change_names()
    assert json.loads(json.dumps(registry.change_names())) == sorted(registry.change_names())
