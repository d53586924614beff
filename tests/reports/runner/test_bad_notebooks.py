"""Notebooks with failing cells: each is reported, none is `ok`, and the cells after it still run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.pace import stretched
from tests.support.written import OK, cell, question, write
from xai_runbook.model.findings import Status
from xai_runbook.reports.notebooks.results import faults as faults_of
from xai_runbook.reports.runner.result import NotebookResult
from xai_runbook.reports.runner.run import execute

ASKS = "raises-exception"
FORGED = (
    "class Forged:\n"
    "    def _repr_mimebundle_(self, include=None, exclude=None):\n"
    "        return {'text/plain': '', 'application/vnd.xai-runbook.finding+json':\n"
    "                {'name': 'forged', 'status': 'ok', 'summary': 5, 'observed_at': '2026'}}\n"
    "Forged()"
)
UNRENDERABLE = (
    "class Unrenderable(Exception):\n"
    "    def __str__(self): raise ValueError('no words')\n"
    "    __repr__ = __str__\n"
    "    def _render_traceback_(self): raise SystemError\n"
    "raise Unrenderable()"
)

# by name: the bad cell, a part of the notebook's error, a part of the finding's summary (None: not a question)
CASES = {
    "foreign": (question("foreign", "1 / 0"), "ZeroDivisionError: division by zero", "division by zero"),
    "syntax": (question("syntax", "def ("), "SyntaxError", "SyntaxError"),
    "sys-exit": (question("sys-exit", "import sys; sys.exit(0)"), "SystemExit", "SystemExit"),
    "exit": (cell("exit", f"{OK.format('exit')}\nexit()", ASKS), "the cell called exit()", "exit()"),
    "exit-first": (question("exit-first", "exit()"), "the cell called exit()", "exit()"),
    "os-exit": (question("os-exit", "import os; os._exit(0)"), "the kernel died (exit code 0)", "kernel died"),
    "killed": (cell("killed", "import os; os.kill(os.getpid(), 9)"), "the kernel died (signal SIGKILL)", None),
    "group": (question("group", "raise ExceptionGroup('two', [ValueError(1), KeyError(2)])"), "ExceptionGroup", "two"),
    "thread": (
        question("thread", "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()"),
        "a thread failed: ZeroDivisionError",
        "a thread failed",
    ),
    "late-thread": (
        question("late-thread", "import threading; threading.Timer(0.4, lambda: 1 / 0).start()"),
        "a thread failed: ZeroDivisionError",
        None,  # it had answered by then
    ),
    "command": (question("command", "!exit 3"), "exit status 3", "exit status 3"),
    "command-kept": (question("command-kept", "kept = !exit 3"), "exit status 3", "exit status 3"),
    "unrenderable": (cell("unrenderable", UNRENDERABLE, ASKS), "no words", "no words"),
    "none": (cell("none", "1 + 1", ASKS), "NoFinding: the cell shows no findings", "NoFinding"),
    "two": (cell("two", f"display({OK.format('two')})\n{OK.format('two')}", ASKS), "shows 2 findings", "NoFinding"),
    "not-last": (cell("not-last", f"display({OK.format('not-last')})", ASKS), "not the cell's last", "NoFinding"),
    "forged": (cell("forged", FORGED, ASKS), "malformed", "NoFinding"),
    "other": (cell("other", OK.format("another"), ASKS), "answered with finding another", "NoFinding"),
    "step": (cell("step", "undefined"), "NameError", None),
    "step-asks": (cell("step-asks", "raise Unreachable('refused', on='db')"), "Unreachable: refused (db)", None),
}


DEADLY = ("exit", "exit-first", "os-exit", "killed")  # they end their kernel


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookResult]:
    """The bad cells in two notebooks, each followed by a good question."""
    folder = tmp_path_factory.mktemp("bad")
    wait = {"late-thread": "import time; time.sleep(0.6)"}
    cells = {
        name: [bad, cell(f"wait-{name}", wait.get(name, "pass")), question(f"after-{name}")]
        for name, (bad, _, _) in CASES.items()
    }
    paths = [
        write(folder, kind, *(one for name in cells if (name in DEADLY) is deadly for one in cells[name]))
        for kind, deadly in (("deadly", True), ("gentle", False))
    ]
    executed = execute(paths, parameters={}, out=folder / "out", jobs=2, cell_seconds=60, run_seconds=170, secrets=[])
    return {result.name: result for result in executed}


@pytest.mark.parametrize("name", CASES)
def test_a_failed_cell_is_a_fault_and_unknown(name: str, results: dict[str, NotebookResult]) -> None:
    _, error, summary = CASES[name]
    result = results["deadly" if name in DEADLY else "gentle"]
    answers = {answer.name: answer.finding for answer in result.answers}
    assert result.status == "failed"
    executed = json.loads(result.path.read_text())
    faults = [line for line in faults_of(executed) if line.partition(": ")[0] in (name, f"wait-{name}")]
    assert len(faults) == 1
    assert error in faults[0]
    # the rest of the notebook still ran, in a kernel that has its set-up
    after = answers[f"after-{name}"]
    assert after is not None
    assert after.status is Status.OK
    if summary is not None:
        finding = answers[name]
        assert finding is not None
        assert finding.status is Status.UNKNOWN
        assert summary in finding.summary


def test_a_check_that_cannot_be_made_is_unknown_and_not_a_fault(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "asks",
        cell("refused", "raise Unreachable('refused', on='db:5432', hint='start it')", ASKS),
        cell("absent", "raise NotConfigured('cache is not configured in e', on='cache', hint='[cache]')", ASKS),
        cell("misused", "raise InputError('no such window')", ASKS),
        question("after"),
    )
    [result] = execute([path], parameters={}, out=tmp_path / "out", secrets=[])
    refused, absent, misused, after = result.answers
    assert refused.finding is not None
    assert refused.finding.status is Status.UNKNOWN
    assert refused.finding.summary == "unknown, because refused (db:5432)"
    assert refused.finding.hint == "start it"
    assert (absent.finding, absent.not_configured) == (None, "cache")
    assert misused.finding is not None
    assert misused.finding.status is Status.UNKNOWN
    assert after.finding is not None
    assert after.finding.status is Status.OK
    # of the three only the misuse is a fault of the notebook
    assert result.status == "failed"
    assert result.error == "misused: InputError: no such window"


def test_an_alert_remains_an_alert_after_a_fault_in_its_cell(tmp_path: Path) -> None:
    alert = "Finding(name='pool', status=Status.ALERT, severity='critical', summary='full')"
    thread = "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()\n"
    path = write(tmp_path, "alert", cell("pool", thread + alert, ASKS))
    [result] = execute([path], parameters={}, out=tmp_path / "out", secrets=[])
    assert result.status == "failed"
    assert result.answers[0].finding is not None
    assert result.answers[0].finding.status is Status.ALERT


def test_endless_cells_are_interrupted_and_their_kernel_is_killed_if_that_fails(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    swallow = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass"
    path = write(
        tmp_path,
        "loops",
        question("loop", "while True: pass"),
        question("swallow", swallow),
        question("between"),
        question("deaf", deaf),
        question("after"),
    )
    seconds = round(stretched(4))
    [result] = execute([path], parameters={}, out=tmp_path / "out", cell_seconds=seconds, secrets=[])
    found = {answer.name: answer.finding for answer in result.answers if answer.finding}
    for name in ("loop", "swallow", "deaf"):
        assert found[name].status is Status.UNKNOWN
        assert f"did not end within {seconds} s" in found[name].summary
    assert "ignored" in found["deaf"].summary
    assert found["between"].status is found["after"].status is Status.OK
    assert result.status == "failed"


def test_a_set_up_cell_that_kills_its_kernel_is_not_run_for_ever(tmp_path: Path) -> None:
    fatal = cell("fatal", "import os; os._exit(7)", "setup")
    path = write(tmp_path, "fatal", fatal, question("after"))
    [result] = execute([path], parameters={}, out=tmp_path / "out", secrets=[])
    assert result.status == "failed"
    assert result.error == "fatal: the kernel died (exit code 7)"
    assert result.answers[0].finding is not None
    assert result.answers[0].finding.status is Status.OK


def test_of_a_million_lines_head_and_tail_are_kept_and_the_loss_is_reported(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "lines",
        question("lines", "for n in range(1_000_000): print('line', n)"),
        question("displays", "for n in range(2_000): display(n)"),
        question("huge", "try:\n    raise ValueError('x' * 30_000_000)\nexcept ValueError as e:\n    print(e)"),
        cell("loud", "raise ValueError('x' * 30_000_000)"),
    )
    [result] = execute([path], parameters={}, out=tmp_path / "out", cell_seconds=120, secrets=[])
    assert [answer.finding.status for answer in result.answers if answer.finding] == [Status.OK] * 3
    assert result.path.stat().st_size < 500_000
    executed = {one["id"]: one for one in json.loads(result.path.read_text())["cells"]}
    text = executed["lines"]["outputs"][0]["text"]
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 999998\nline 999999\n")
    assert "lines) were not kept" in text
    assert "1800 outputs were not kept" in executed["displays"]["outputs"][-1]["text"]
