"""M1: errors of tables and charts next to a check never change its verdict: in reports, plain nbclient and `check`."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.written import OK, cell, write
from xai_runbook.model.findings import Status
from xai_runbook.reports.check import run_questions
from xai_runbook.reports.runner.run import execute
from xai_runbook.system import cell_display

SET_UP = """from xai_runbook import charts, connect
env = connect(environment)
calls = []
def nothing(name):
    calls.append(name)
    raise NoData(f"no series of {name}")"""
BESIDE = """display(nothing("table"))
frame = nothing("frame")
charts.bars(frame, label="name", value="value")
display("shown all the same")"""


def questions() -> list[dict[str, object]]:
    return [
        cell("display-set-up", SET_UP, "setup"),
        cell("first", f"{BESIDE}\n{OK.format('first')}", "raises-exception", "health"),
        cell("judged", f"frame = nothing('judged')\nframe\n{OK.format('judged')}", "raises-exception", "health"),
        cell("misspelt", f"display(no_such_name)\n{OK.format('misspelt')}", "raises-exception", "health"),
    ]


def shown(executed: Any, name: str) -> str:
    (found,) = [one for one in executed.cells if one.id == name]
    return "\n".join(output["data"].get("text/plain", "") for output in found.outputs if "data" in output)


@pytest.mark.usefixtures("sandbox")
def test_m1_errors_of_tables_and_charts_are_shown_in_their_place(tmp_path: Path) -> None:
    path = write(tmp_path, "one", *questions())
    [result] = execute([path], parameters={}, out=tmp_path / "out", jobs=1, secrets=[])
    statuses = {answer.name: answer.finding.status for answer in result.answers if answer.finding}
    assert statuses == {"first": Status.OK, "judged": Status.UNKNOWN, "misspelt": Status.UNKNOWN}
    text = shown(nbformat.reads(result.path.read_text(), as_version=4), "first")
    assert "no data: no series of table" in text and "no data: no series of frame" in text
    assert "shown all the same" in text

    checked = run_questions("sandbox", notebook=path)
    assert {answer.name: answer.finding.status for answer in checked.answers if answer.finding} == {
        "first": Status.OK,
        "judged": Status.UNKNOWN,
        "misspelt": Status.OK,  # `check` displays nothing
    }


@pytest.mark.usefixtures("sandbox")
def test_m1_errors_are_shown_in_place_by_plain_nbclient(tmp_path: Path) -> None:
    notebook = nbformat.read(write(tmp_path, "one", *questions()), as_version=4)
    executed = NotebookClient(notebook).execute()
    assert "no data: no series of table" in shown(executed, "first")
    assert "OK first: all is well" in shown(executed, "first")
    assert "all is well" not in shown(executed, "misspelt")


@pytest.mark.parametrize(
    ("source", "positions"),
    [
        ("display(a)\ncheck(b)", [0]),
        ("b = ask()\ndisplay(b)\ncheck(b)", [1]),
        ("a = ask()\ncharts.bars(a)\nb = other()\ncheck(b)", [0, 1]),
        ("a = ask()\nb = a.head()\ndisplay(b)\ncheck(a)", [1, 2]),
        ("a = ask()\ncheck(b)", []),
        ("display(a)\na = 1", []),
        ("", []),
    ],
)
def test_display_only_statements(source: str, positions: list[int]) -> None:
    assert cell_display.display_only(ast.parse(source).body, {"display", "charts"}.__contains__) == positions
