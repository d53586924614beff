"""The commands that plan, apply and undo changes, as a person types them and as programs call them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.changing import Session, lives
from tests.support.pace import stretched
from tests.support.typed import COMMAND, Typed, run
from tests.support.written_plans import written
from xai_runbook.changes import registry
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.target_lock import Lock
from xai_runbook.cli import change_arguments
from xai_runbook.cli.main import main
from xai_runbook.environment import Environment
from xai_runbook.model.plans import Call, Condition, Plan, Risk
from xai_runbook.operations.database import sessions

Opens = Callable[..., Session]


@pytest.fixture(autouse=True)
def folder(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in this process use the test's journal too."""
    monkeypatch.setenv("XAI_RUNBOOK_OUTPUTS__JOURNAL", str(journal.folder))
    return journal.folder


def plan_file(tmp_path: Path, plan: Plan) -> Path:
    path = tmp_path / "change.plan.json"
    path.write_bytes(plan.file())
    return path


def confirmation_in(shown: str) -> str:
    match = re.search(r"to apply +type: (.+?)\r?\n", shown)
    assert match, shown
    return match[1]


# help


@pytest.mark.parametrize("command", ["plan", "apply", "journal", "undo", "stop", "resume"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"xai-runbook {command}" in capsys.readouterr().out.partition("xample")[2]


@pytest.mark.parametrize("name", registry.change_names())
def test_every_change_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["plan", name, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert (registry.find_change(name).__doc__ or "").strip().splitlines()[0] in shown
    assert "--env" in shown and "--out" in shown and f"xai-runbook plan {name}" in shown


def test_changes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "list"]) == 0
    shown = capsys.readouterr().out
    for name in ("database.terminate", "database.cancel", "monitoring.provoke_cpu", "monitoring.end_load"):
        assert re.search(rf"^  {name} +\w+", shown, re.MULTILINE)


@pytest.mark.parametrize("asked", ["os.system", "database.sessions", "database.sessions.terminate"])
def test_an_unknown_change_is_refused(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", asked]) == 3
    assert "there is no change" in capsys.readouterr().err


def test_a_wrong_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["plan", "database.terminate", "--pids", "all"])
    assert left.value.code == 3 and "invalid int value" in capsys.readouterr().err


def sample(database: Any, *, a: int, b: float = 0.5, c: str | None = None, d: list[str], e: bool = False) -> Plan:
    """A Plan of nothing."""
    return written()


def test_arguments_come_from_the_signature(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Also the types that no change has yet."""
    monkeypatch.setattr(registry, "find_change", lambda name: sample)
    options = change_arguments.parser("x.sample").parse_args(["--a", "7", "--d", "x", "y", "--e"])
    assert (options.a, options.b, options.c, options.d, options.e) == (7, 0.5, None, ["x", "y"], True)
    with pytest.raises(SystemExit):
        change_arguments.parser("x.sample").parse_args(["--help"])
    assert "--a 4711 --d NAME" in capsys.readouterr().out


# plan, show, apply


def test_a_change_from_plan_to_journal(here: Environment, session: Opens, folder: Path, tmp_path: Path) -> None:
    victim, file = session(), tmp_path / "end.plan.json"
    pid = str(victim.info.backend_pid)
    planned = run("plan", "database.terminate", "--pids", pid, "--env", "sandbox", "--out", str(file), journal=folder)
    assert planned.returncode == 0, planned.stderr
    assert f"xai-runbook apply {file}" in planned.stdout and f"session {pid} of xai_app" in planned.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    assert Journal(folder).records() == [], "planning records nothing"

    shown = run("plan", "show", str(file), journal=folder)
    assert shown.returncode == 0 and shown.stdout in planned.stdout
    document = json.loads(run("plan", "show", str(file), "--json", journal=folder).stdout)
    assert document == json.loads(file.read_bytes())

    person = Typed("apply", str(file), "--reason", "INC-7", journal=folder)
    person.until("anything else to cancel: ")
    person.type(confirmation_in(person.shown))
    assert person.ended() == 0
    assert "DONE (journal entry 1)" in person.shown and "step 1 of 1" in person.shown
    assert not lives(victim)

    listed = run("journal", "list", journal=folder).stdout
    assert re.search(rf"^1  2\S+  done  sandbox  \S+@\S+  terminate session {pid} of .*  INC-7$", listed, re.M)
    one = run("journal", "show", "1", journal=folder).stdout
    assert "outcome     terminate session" in one and "sql/database/terminate_session.sql" in one
    entry = json.loads(run("journal", "show", "1", "--json", journal=folder).stdout)
    assert (entry["entry"], entry["status"], entry["intent"]["reason"]) == (1, "done", "INC-7")
    assert json.loads(run("journal", "list", "--json", journal=folder).stdout) == [entry]
    assert run("journal", "verify", journal=folder).stdout == "2 records, all unchanged\n"
    assert json.loads(run("journal", "verify", "--json", journal=folder).stdout) == {"records": 2}
    back = run("undo", "1", journal=folder)
    assert back.returncode == 3 and "no plan to undo it: cannot be undone" in back.stderr

    again = Typed("apply", str(file), journal=folder)
    assert again.ended() == 3 and "anything else to cancel" not in again.shown
    assert "this plan was applied before" in again.shown


def test_a_change_from_plan_to_journal_in_this_process(
    here: Environment, session: Opens, terminal: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim, file = session(), tmp_path / "end.plan.json"

    def output(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code
        return capsys.readouterr().out

    output("plan", "database.terminate", "--pids", str(victim.info.backend_pid), "--out", str(file))
    words = confirmation_in(output("plan", "show", str(file)))
    os.write(terminal, b"\n")
    assert "nothing was done" in output("apply", str(file), code=1)
    output("stop", "--why", "INC-1")
    os.write(terminal, f"{words}\n".encode())
    output("apply", str(file), code=3)
    assert "may be applied again" in output("resume") and "were not stopped" in output("resume")
    os.write(terminal, f"{words}\n".encode())
    assert "DONE (journal entry 3)" in output("apply", str(file), "--reason", "INC-1")
    assert not lives(victim)
    listed = output("journal", "list")
    assert [line.split()[0] for line in listed.splitlines()] == ["1", "2", "3"]
    assert "stopped" in listed.splitlines()[0] and "resumed" in listed.splitlines()[1]
    assert "INC-1" in listed and "outcome  " in output("journal", "show", "3")
    (entry,) = json.loads(output("journal", "list", "--json"))
    assert entry == json.loads(output("journal", "show", "3", "--json"))
    assert json.loads(output("journal", "verify", "--json")) == {"records": 4}
    assert output("journal", "verify").startswith("4 records")
    output("undo", "3", code=3)


def test_a_person_may_cancel_or_mistype_the_confirmation(
    here: Environment, session: Opens, folder: Path, tmp_path: Path
) -> None:
    victim = session()
    file = plan_file(tmp_path, sessions.terminate(here.database, pids=[victim.info.backend_pid]))
    for typed, code, message in (
        ("", 1, "nothing was done"),
        ("terminate", 3, "the confirmation does not match the plan"),
    ):
        person = Typed("apply", str(file), journal=folder)
        person.until("anything else to cancel: ")
        person.type(typed)
        assert person.ended() == code and message in person.shown
    person = Typed("apply", str(file), journal=folder)
    person.until("anything else to cancel: ")
    person.ctrl_c()
    assert person.ended() == 130 and "interrupted" in person.shown
    assert lives(victim) and Journal(folder).records() == []


def test_the_outcome_as_json(here: Environment, session: Opens, folder: Path, tmp_path: Path) -> None:
    plan = sessions.terminate(here.database, pids=[session().info.backend_pid])
    person = Typed("apply", str(plan_file(tmp_path, plan)), "--json", journal=folder)
    person.until("anything else to cancel: ")
    person.type(plan.confirmation)
    assert person.ended() == 0
    outcome = json.loads(person.shown[person.shown.rindex("\n{") :])
    assert outcome["status"] == "done" and outcome["entry"] == 1


def test_a_destructive_plan_needs_a_person(here: Environment, session: Opens, folder: Path, tmp_path: Path) -> None:
    victim = session()
    plan = sessions.terminate(here.database, pids=[victim.info.backend_pid])
    for stdin in ("", f"{plan.confirmation}\n"):
        done = run("apply", str(plan_file(tmp_path, plan)), journal=folder, stdin=stdin)
        assert done.returncode == 3 and "a plan of risk destructive needs a person" in done.stderr
    additive = plan_file(tmp_path, replace(plan, risk=Risk.ADDITIVE))
    done = run("apply", str(additive), journal=folder)
    assert done.returncode == 3 and "the settings do not allow this change without a person" in done.stderr
    # and where they do, the plan is made again: a file that calls itself additive is not what the change says
    done = run("apply", str(additive), journal=folder, XAI_RUNBOOK_CHANGES__HEADLESS='["database.terminate"]')
    assert done.returncode == 3 and "the system has changed" in done.stderr and "risk" in done.stderr
    assert lives(victim) and Journal(folder).records() == []


def test_an_edited_plan_is_refused_before_the_confirmation(tmp_path: Path, folder: Path) -> None:
    plan = written()
    document = json.loads(plan.file())
    document["plan"]["targets"] = ["session 18"]
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(document))
    shown = run("plan", "show", str(file), journal=folder)
    assert shown.returncode == 0 and "EDITED after it was made" in shown.stderr
    person = Typed("apply", str(file), journal=folder)
    assert person.ended() == 3 and "the plan was edited after it was made" in person.shown
    assert "anything else" not in person.shown


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"plan": {}, "digest": ""}', b"[" * 200_000, b" " * 5_000_000],
    ids=["empty", "object", "list", "bytes", "no plan", "deep", "large"],
)  # fmt: skip
def test_a_file_that_is_not_a_plan(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    for words in (["plan", "show", str(file)], ["apply", str(file)]):
        assert main(words) == 3
        assert re.search(r"is not a plan", capsys.readouterr().err)


def test_files_that_cannot_be_read_or_written(
    here: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "show", str(tmp_path / "none")]) == 3
    assert "cannot be read: No such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["plan", "show"])
    assert left.value.code == 3 and "required: FILE" in capsys.readouterr().err
    assert main(["plan", "monitoring.end_load", "--out", str(tmp_path / "none" / "x")]) == 3
    assert "the plan cannot be written: No such file" in capsys.readouterr().err


def test_a_plan_without_steps_asks_for_no_confirmation(
    here: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    assert main(["plan", "monitoring.end_load", "--out", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["note"] == "no provoked load is running"
    assert main(["apply", str(file)]) == 0
    assert "there is nothing to do" in capsys.readouterr().out


def test_a_refused_plan_shows_its_reason(tmp_path: Path, here: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    plan = written(steps=(), expected=None, refused="the settings say production")
    assert main(["plan", "show", str(plan_file(tmp_path, plan))]) == 3
    assert main(["apply", str(plan_file(tmp_path, plan))]) == 3
    assert "the settings say production" in capsys.readouterr().err


def test_ctrl_c_leaves_a_known_state_and_nothing_running(here: Environment, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    assert run("plan", "monitoring.provoke_disk", "--out", str(file), journal=folder).returncode == 0
    person = Typed("apply", str(file), journal=folder)
    person.until("anything else to cancel: ")
    person.type(confirmation_in(person.shown))
    person.until("MiB allocated")
    assert here.sandbox.loads()
    person.ctrl_c()
    assert person.ended() == 130
    assert "FAILED (journal entry 1): nothing was done: step 1 of 1: interrupted by Ctrl-C and stopped" in person.shown
    assert here.sandbox.loads() == []
    assert Journal(folder).entries()[0].status == "failed"


# reconcile, undo, stop


def test_reconcile_finds_the_outcome_or_records_what_a_person_found(
    here: Environment, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(folder)
    plan = written(identity={}, undo=Call(change="monitoring.end_load", arguments={}))
    for digest in "ab":
        journal.append("intent", digest=digest, target="", reason="", environment="sandbox", plan=plan.to_json())
    assert "apply ended before it could record one" in run("journal", "show", "1", journal=folder).stdout
    assert main(["undo", "1", "--json"]) == 0
    assert '"end_load' not in capsys.readouterr().err
    looked = run("journal", "reconcile", "1", journal=folder)
    assert looked.returncode == 0 and "DONE (journal entry 1): the expected condition holds now" in looked.stdout
    words = ("journal", "reconcile", "2", "--as", "failed", "--why", "I looked")
    assert "by a person only" in run(*words, journal=folder).stderr
    with Typed(*words, journal=folder) as person:
        assert person.ended() == 0 and "FAILED (journal entry 2): according to a person: I looked" in person.shown
    assert run("journal", "reconcile", "2", journal=folder).returncode == 3
    back = run("undo", "1", "--json", journal=folder)
    assert back.returncode == 0 and json.loads(back.stdout)["plan"]["change"].endswith("end_load")


def test_reconcile_without_an_answer_stays_unknown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal(folder).append("intent", digest="a", target="", plan=written().to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_RUNBOOK_DATABASE__PORT", "1")
        assert main(["journal", "reconcile", "1"]) == 3
    assert "UNKNOWN (journal entry 1): the current state is unknown" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["show", "reconcile"])
def test_an_entry_must_be_named_and_exist(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["journal", verb])
    assert left.value.code == 3 and f"usage: xai-runbook journal {verb}" in capsys.readouterr().err
    assert main(["journal", verb, "9"]) == 3
    assert "the journal has no entry 9" in capsys.readouterr().err


def test_a_damaged_journal_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(folder)
    journal.append("note")
    journal.path.write_bytes(journal.path.read_bytes().replace(b"note", b"mote"))
    assert main(["journal", "verify"]) == 3
    assert "do not match the head" in capsys.readouterr().err


def test_stop_and_resume(here: Environment, session: Opens, folder: Path, tmp_path: Path) -> None:
    assert "needs a person" in run("resume", journal=folder).stderr
    with Typed("resume", journal=folder) as person:
        assert person.ended() == 0 and "were not stopped" in person.shown
    plan = sessions.terminate(here.database, pids=[session().info.backend_pid])
    stopped = run("stop", "--why", "INC-9\x1b[2J", journal=folder)
    assert stopped.returncode == 0 and "changes are stopped" in stopped.stdout
    person = Typed("apply", str(plan_file(tmp_path, plan)), journal=folder)
    assert person.ended() == 3 and "changes are stopped: INC-9\N{REPLACEMENT CHARACTER}[2J" in person.shown
    assert "type the confirmation" not in person.shown
    with Typed("resume", journal=folder) as person:
        assert person.ended() == 0 and "may be applied again" in person.shown
    person = Typed("apply", str(plan_file(tmp_path, plan)), journal=folder)
    person.until("anything else to cancel: ")
    person.type(plan.confirmation)
    assert person.ended() == 0


def test_x9_a_plan_that_is_refused_asks_for_no_confirmation(
    here: Environment, session: Opens, folder: Path, tmp_path: Path
) -> None:
    plan = sessions.terminate(here.database, pids=[session().info.backend_pid])
    file = str(plan_file(tmp_path, plan))

    def refused(says: str, **more: str) -> None:
        with Typed("apply", file, journal=folder, more=more) as person:
            assert person.ended() == 3 and says in person.shown, person.shown
            assert "type the confirmation" not in person.shown

    entry = Journal(folder).append("intent", digest="another", target="", plan=plan.to_json())
    refused(
        f"the outcome of an earlier change is unknown (journal entry {entry}, it ended before its outcome was written)"
    )
    Journal(folder).append("reconciled", entry=entry, status="failed")
    with Lock(folder, plan.parts) as lock:
        lock.report("step 1 of 2")
        refused("step 1 of 2")
    settings = here.settings.model_dump_json(
        include={"database": {"host", "port", "dbname", "user", "password", "sslmode"}}
    )
    (tmp_path / "config").mkdir(mode=0o700)
    lines = [f"{key} = {json.dumps(value)}" for key, value in json.loads(settings)["database"].items()]
    (tmp_path / "config" / "reader.toml").write_text("\n".join(["[database]", *lines]))
    other = replace(plan, environment="reader")
    (tmp_path / "reader.json").write_bytes(other.file())
    with Typed(
        "apply", str(tmp_path / "reader.json"), journal=folder, more={"XAI_RUNBOOK_CONFIG": str(tmp_path / "config")}
    ) as person:
        assert person.ended() == 3 and "database.operator is not configured" in person.shown, person.shown
        assert "type the confirmation" not in person.shown
    assert run("stop", "--why", "INC-9", journal=folder).returncode == 0
    refused("changes are stopped: INC-9")
    with Typed("resume", "--why", "INC-9 is over", journal=folder) as person:
        assert person.ended() == 0
    refused("the connection was refused", XAI_RUNBOOK_DATABASE__PORT="1")
    with Typed("apply", file, journal=folder) as person:
        person.until("anything else to cancel: ")
        person.type(plan.confirmation)
        assert person.ended() == 0
    refused("this plan was applied before")


def expecting(plan: Plan, comparison: Literal["==", ">="]) -> Condition:
    """Of the sessions to end, which are there, so many are left."""
    assert plan.expected is not None
    return replace(plan.expected, comparison=comparison, value="0")


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("gone", "the system has changed since the plan was made"),
        ("so already", "there is nothing to do, this already holds"),
        ("guarded", "does not hold"),
    ],
)
def test_x9_a_change_since_the_plan_is_reported_before_the_confirmation(
    case: str, says: str, here: Environment, session: Opens, terminal: int, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    victim = session()
    plan = sessions.terminate(here.database, pids=[victim.info.backend_pid])
    if case == "gone":
        victim.close()
        while here.database.rows("sessions_by_pid", {"pids": [int(plan.observed[0]["pid"] or 0)]}):
            time.sleep(0.01)
    else:
        so = {"expected": expecting(plan, ">=")} if case == "so already" else {"guards": (expecting(plan, "=="),)}
        plan = replace(plan, **so)  # type: ignore[arg-type]
        monkeypatch.setattr(registry, "make_plan", lambda *_: plan)
    os.write(terminal, b"\n")  # should it ask all the same
    assert main(["apply", str(plan_file(tmp_path, plan))]) == 3
    output = capsys.readouterr()
    assert says in output.err and "type the confirmation" not in output.out
    assert Journal(folder).records() == []
    with Lock(folder, plan.parts):
        pass  # it was let go


def test_x9_a_change_during_the_confirmation_is_refused(
    here: Environment, session: Opens, folder: Path, tmp_path: Path
) -> None:
    plan = sessions.terminate(here.database, pids=[session().info.backend_pid])
    with Typed("apply", str(plan_file(tmp_path, plan)), journal=folder) as person:
        person.until("anything else to cancel: ")
        with Lock(folder, plan.parts):  # it holds none while it waits for a person
            pass
        Journal(folder).append("intent", digest="another", target="", plan=plan.to_json())
        person.type(plan.confirmation)
        assert person.ended() == 3 and "the outcome of an earlier change is unknown" in person.shown


def test_a_change_is_stopped_while_the_sandbox_is_down(folder: Path, tmp_path: Path) -> None:
    done = run("stop", "--why", "x", journal=folder, XAI_RUNBOOK_SANDBOX=str(tmp_path / "none"))
    assert done.returncode == 0 and Journal(folder).stop_file.read_text() == "x\n"
    assert run("journal", "list", journal=folder, XAI_RUNBOOK_SANDBOX=str(tmp_path / "none")).returncode == 0


def test_help_imports_no_database_library_and_is_quick() -> None:
    """Importing the commands of changes imports neither psycopg nor pandas."""
    started = time.monotonic()
    subprocess.run([*COMMAND, "journal", "--help"], check=True, capture_output=True)
    assert time.monotonic() - started < stretched(5)
    asked = "import sys, xai_runbook.cli.changes as c; print('psycopg' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert done.stdout == "False False\n"
