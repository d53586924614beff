"""The runbook as data, and the table of what covers each item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.changes import registry
from xai_runbook.cli.main import main
from xai_runbook.runbook import coverage
from xai_runbook.runbook.call_graph import calls

ROWS = coverage.coverage()
ANSWERED = [row for row in ROWS if row.operation]


def test_there_are_144_items_in_their_order() -> None:
    assert [row.item for row in ROWS] == list(range(1, 145))
    lines = [row.line for row in ROWS]
    assert lines == sorted(lines)


@pytest.mark.parametrize("row", ANSWERED, ids=lambda row: f"item-{row.item}")
def test_a_covered_item_has_an_operation_a_notebook_and_a_test(row: coverage.Row, checkout: Path) -> None:
    assert row.operation
    assert row.operation in dict(registry.all_operations())
    assert row.notebook, "no notebook asks it"
    assert (checkout / "notebooks" / f"{row.notebook}.ipynb").is_file()
    assert row.tests, "no test calls it"
    assert row.answered
    for place in row.tests:
        path, _, function = place.partition("::")
        assert f"def {function.rpartition('::')[2]}" in (checkout / path).read_text(encoding="utf-8")


def test_errata_of_a_covered_item_have_what_and_instead() -> None:
    texts = coverage.runbook()["errata"]
    for row in ANSWERED:
        assert set(row.errata) <= set(texts), f"item {row.item}"
    for name, text in texts.items():
        assert set(text) == {"what", "instead"}, name
        assert all(value.endswith(".") for value in text.values()), name
        assert any(name in row.errata for row in ROWS), f"{name} belongs to no item"


def test_literals_are_the_lines_of_the_runbook(checkout: Path) -> None:
    path = checkout.parent / "shared" / "runbook.md"
    if not path.is_file():
        pytest.skip(f"the runbook itself is not beside this checkout ({path.name})")
    runbook = path.read_text(encoding="utf-8").splitlines()
    for item in coverage.runbook()["item"]:
        written = runbook[item["line"] - 1 : item.get("last_line", item["line"])]
        assert "\n".join(written).strip() == item["literal"], f"item {item['item']}"


def test_the_command_ends_with_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 145
    assert lines[-1] == f"{len(ANSWERED)} of 144"


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert {tuple(row) for row in rows} == {("item", "line", "literal", "operation", "notebook", "tests", "errata")}
    height = rows[26]
    assert height["operation"] == "monitoring.blockchain_height"
    assert (height["item"], height["line"], height["notebook"]) == (27, 95, "02_monitoring")
    assert height["errata"] == ["E12", "E15"]
    assert rows[0]["operation"] is None
    assert rows[0]["tests"] == []


@pytest.mark.parametrize(
    "code",
    [
        "from xai_runbook.operations.monitoring import metrics\nmetrics.height(1)",
        "from xai_runbook.operations.monitoring import metrics as m\nm.height(1)",
        "from xai_runbook.operations.monitoring.metrics import height\nheight(1)",
        "from xai_runbook.operations.monitoring.metrics import height as h\nx = [h(n) for n in (1,)]",
        "import xai_runbook.operations.monitoring.metrics\nxai_runbook.operations.monitoring.metrics.height(1)",
        "import xai_runbook.operations.monitoring.metrics as m\nif True:\n    print(m.height(1))",
    ],
)
def test_calls_are_found_through_every_kind_of_import(code: str) -> None:
    assert "xai_runbook.operations.monitoring.metrics.height" in [call.function for call in calls(code)]


@pytest.mark.parametrize(
    "code",
    [
        "from xai_runbook.operations.monitoring import metrics\nmetrics.height",
        "from xai_runbook.operations.monitoring import metrics\n# metrics.height(1)\n'metrics.height(1)'",
        "from elsewhere import monitoring\nmonitoring.height(1)",
        "import monitoring\nmonitoring.height(1)",
    ],
)
def test_a_mention_is_not_a_call(code: str) -> None:
    assert calls(code) == []


def test_a_call_has_its_test_and_the_names_in_it() -> None:
    code = """
from pytest import mark
from xai_runbook.operations import alerts

def state(limit):
    return alerts.check_alert([], limit)

@mark.parametrize("name", ["cpu_used", "disk_free"])
def test_one(limits, name):
    assert alerts.check_alert([], limits.by_name[name])

class TestMore:
    def test_two(self, limits):
        alerts.check_alert([], limits.monitoring.sync_lag)
"""
    names = {call.test: call.names for call in calls(code)}
    assert set(names) == {"", "test_one", "TestMore::test_two"}
    assert {"cpu_used", "disk_free"} <= names["test_one"]
    assert "sync_lag" in names["TestMore::test_two"]
    assert "sync_lag" not in names["test_one"]
