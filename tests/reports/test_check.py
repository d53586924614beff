from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.pace import stretched
from tests.support.samples import SETUP, cell, environment, notebook, question
from xai_runbook.errors import InputError, ReportError, SettingsError
from xai_runbook.model.findings import Status
from xai_runbook.reports.check import run_questions
from xai_runbook.reports.runner.result import CellAnswer, NotebookResult


@pytest.fixture(autouse=True)
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    environment(tmp_path)


def run(folder: Path, *cells: dict[str, Any], only: tuple[str, ...] = (), **more: Any) -> NotebookResult:
    setup = more.pop("setup", SETUP)
    return run_questions("plain", only, notebook=notebook(folder / "some.ipynb", *cells, setup=setup), **more)


def one(result: NotebookResult) -> CellAnswer:
    (answer,) = result.answers
    return answer


def test_answers_come_in_the_notebooks_order_with_their_section(tmp_path: Path) -> None:
    result = run(
        tmp_path, question("b", 'ok("b")', section="02_monitoring"), question("a", 'ok("a")', section="03_database")
    )
    assert [(answer.name, answer.section) for answer in result.answers] == [
        ("b", "02_monitoring"),
        ("a", "03_database"),
    ]
    assert all(answer.finding and answer.finding.section == answer.section for answer in result.answers)
    assert (result.status, result.error) == ("completed", "")


def test_the_environment_is_the_one_that_was_named_whatever_the_notebook_says(tmp_path: Path) -> None:
    found = one(run(tmp_path, question("a", 'ok("a", f"{environment} {env.name}")'))).finding
    assert found
    assert found.summary == "plain plain"


def test_only_health_questions_are_asked_and_of_those_only_the_named(tmp_path: Path) -> None:
    cells = [question("a", 'ok("a")'), question("b", 'ok("b")'), question("c", 'ok("c")', health=False)]
    assert [answer.name for answer in run(tmp_path, *cells).answers] == ["a", "b"]
    assert [answer.name for answer in run(tmp_path, *cells, only=("b",)).answers] == ["b"]


def test_an_unknown_question_is_refused_and_similar_names_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"block_grouth.*block_growth"):
        run(tmp_path, question("block_growth", 'ok("block_growth")'), only=("block_grouth",))


def test_a_check_that_cannot_be_made_is_unknown_with_the_reason_and_the_others_are_made(tmp_path: Path) -> None:
    refused = question("pool", 'raise errors.Unreachable("refused", on="db:5432", hint="start it")\nok("pool")')
    result = run(tmp_path, refused, question("a", 'ok("a")'))
    pool, other = (answer.finding for answer in result.answers)
    assert pool
    assert other
    assert (pool.status, pool.summary) == (Status.UNKNOWN, "unknown, because refused (db:5432)")
    assert pool.severity == "high", "from its limit"
    assert pool.hint == "start it"
    assert other.status is Status.OK
    assert result.status == "completed"


def test_a_part_that_is_not_configured_has_no_finding(tmp_path: Path) -> None:
    answer = one(run(tmp_path, question("a", 'env.database.frame("pool")')))
    assert (answer.finding, answer.not_configured) == (None, "database")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)\n1", "SystemExit: 0"),
        ("exit()", "SystemExit"),
        ("raise KeyboardInterrupt\n1", "KeyboardInterrupt"),
        ('raise ExceptionGroup("several", [ValueError("one")])\n1', "ExceptionGroup: several"),
        ("class Sly(Exception):\n    def __str__(self): raise RuntimeError\nraise Sly\n1", "Sly"),
        ("ok('another')", "NoFinding: the cell returned the finding another"),
        ("42", "NoFinding: the cell returned int"),
        ("found = ok('a')", "NoFinding: the cell does not end with a check"),
        ("", "NoFinding: the cell does not end with a check"),
        ("ok('a'", "NoFinding: the cell does not end with a check"),
        ('raise errors.SettingsError("broken")\n1', "SettingsError: broken"),
    ],
)
def test_a_cell_without_its_finding_is_unknown_and_a_fault(tmp_path: Path, source: str, message: str) -> None:
    result = run(tmp_path, question("a", source), question("b", 'ok("b")'))
    first, second = (answer.finding for answer in result.answers)
    assert first
    assert second
    assert first.status is Status.UNKNOWN
    assert message in first.summary
    assert second.status is Status.OK
    assert result.status == "failed"
    assert result.error.startswith("a: ")


def test_a_question_that_never_ends_is_unknown_at_the_deadline(tmp_path: Path) -> None:
    started = time.monotonic()
    hangs = question("slow", 'import time\ntime.sleep(20)\nok("slow")')
    result = run(tmp_path, hangs, question("b", 'ok("b")'), seconds=0.5)
    assert time.monotonic() - started < stretched(3)
    slow, quick = (answer.finding for answer in result.answers)
    assert slow
    assert quick
    assert slow.summary == "unknown, because no answer within 0.5 s"
    assert quick.status is Status.OK
    assert result.status == "failed"


def test_checks_run_concurrently(tmp_path: Path) -> None:
    # each waits until all the others run: one after another, none would end
    meet = "import time, pathlib\npathlib.Path({0!r}, 'q{1}').touch()\nhere = pathlib.Path({0!r})\n"
    meet += "while len(list(here.glob('q*'))) < 8: time.sleep(0.02)\nok('q{1}')"
    (tmp_path / "here").mkdir()
    questions = [question(f"q{n}", meet.format(str(tmp_path / "here"), n)) for n in range(8)]
    result = run(tmp_path, *questions, seconds=60)
    assert [answer.finding.status for answer in result.answers if answer.finding] == [Status.OK] * 8


def test_names_that_one_question_binds_are_not_visible_to_others(tmp_path: Path) -> None:
    cells = [question("a", 'mine = 1\nok("a")'), question("b", 'import time\ntime.sleep(0.2)\nok("b", str(mine))')]
    second = run(tmp_path, *cells).answers[1].finding
    assert second
    assert "NameError" in second.summary


def test_displays_and_the_queries_only_for_them_are_skipped(tmp_path: Path) -> None:
    query = "calls = []\n\n\ndef query(what):\n    calls.append(what)\n    return what\n"
    setup = f"{SETUP}\nfrom xai_runbook import charts\n\n{query}"
    source = """\
used = query("used")
history = query("history")
display(query("table"))
charts.timeline(history, query("chart"))
axes = charts.bars(history)
ok("a", f"{used} {calls}")"""
    found = one(run(tmp_path, question("a", source), setup=setup)).finding
    assert found
    assert found.summary == "used ['used']"


def test_charts_under_another_name_are_not_drawn_either(tmp_path: Path) -> None:
    setup = SETUP + "\nfrom xai_runbook.charts import timeline as drawn\n"
    found = one(run(tmp_path, question("a", 'drawn(nothing)\nok("a")'), setup=setup)).finding
    assert found
    assert found.status is Status.OK


def test_an_import_that_no_question_uses_is_not_made(tmp_path: Path) -> None:
    setup = SETUP + "\nimport there_is_no_such_module\nfrom there_is_neither import this\n"
    found = one(run(tmp_path, question("a", 'ok("a")'), setup=setup)).finding
    assert found
    assert found.status is Status.OK
    with pytest.raises(ReportError, match="ModuleNotFoundError"):
        run(tmp_path, question("a", 'this\nok("a")'), setup=setup)


def test_prints_of_a_question_are_discarded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, question("a", 'print("x" * 1000)\nok("a")'))
    assert capsys.readouterr().out == ""


def test_a_failing_set_up_cell_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="ZeroDivisionError"):
        run(tmp_path, question("a", 'ok("a")'), setup="env = 1 / 0")
    with pytest.raises(SettingsError, match="nowhere"):
        run_questions("nowhere", notebook=notebook(tmp_path / "x.ipynb", question("a", 'ok("a")')))


def test_an_invalid_notebook_is_named(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"nbformat": 3, "cells": []}', '{"nbformat": 4, "cells": [1]}', "[" * 100_000):
        path = tmp_path / "bad.ipynb"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"bad\.ipynb"):
            run_questions("plain", notebook=path)


def test_markdown_and_plain_cells_are_skipped(tmp_path: Path) -> None:
    result = run(tmp_path, cell("m", "# text", kind="markdown"), cell("c", "1 / 0"), question("a", 'ok("a")'))
    assert [answer.name for answer in result.answers] == ["a"]


def test_a_check_imports_no_kernel_no_charts_and_no_papermill(tmp_path: Path) -> None:
    path = notebook(tmp_path / "some.ipynb", question("a", 'ok("a")'))
    code = (
        "import sys; from pathlib import Path; from xai_runbook.reports.check import run_questions\n"
        f"assert run_questions('plain', notebook=Path({str(path)!r})).status == 'completed'\n"
        "heavy = {'nbformat', 'papermill', 'nbclient', 'IPython', 'jupyter_client', 'matplotlib', 'boto3', 'jinja2'}\n"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
