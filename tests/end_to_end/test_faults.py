"""Each fault of the sandbox turns its finding into an alert within a minute; healed, all findings are ok in another."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.support.pace import stretched
from xai_runbook import sandbox as sandboxes
from xai_runbook.cli.main import main
from xai_runbook.sandbox.faults.table import FAULTS, Fault
from xai_runbook.system import sandbox_state

SECONDS = 60.0
Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sandbox that only these tests use, because they break it."""
    where = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_RUNBOOK_SANDBOX", str(where))
        sandboxes.up(where, bound=True)
        try:
            yield where
        finally:
            sandboxes.down(where)


@pytest.fixture
def healthy(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same sandbox, with all findings ok before a test and healed after it."""
    monkeypatch.chdir(tmp_path)
    until_all_is_well()
    yield folder
    sandboxes.heal(None, folder)


def run(*words: str) -> tuple[int, dict[str, Any]]:
    """Run a command; return its exit code and its JSON output."""
    with redirect_stdout(StringIO()) as output:
        code = main([*words, "--env", "sandbox", "--json"])
    return code, json.loads(output.getvalue())


def until(holds: Callable[[int, Findings], bool], *names: str) -> tuple[int, Findings]:
    """Repeat the check until `holds` is true; return its exit code and its findings by name."""
    end = time.monotonic() + stretched(SECONDS)
    while True:
        code, record = run("check", *names)
        found = {finding["name"]: finding for finding in record["findings"]}
        if holds(code, found):
            return code, found
        wrong = [finding for finding in found.values() if finding["status"] != "ok"]
        assert time.monotonic() < end, f"not within {SECONDS:g} s: exit code {code}, {wrong}"
        time.sleep(0.2)


def until_all_is_well() -> None:
    """Check everything, repeat the findings that are not ok until they are, then check everything again."""

    def is_well(code: int, findings: Findings) -> bool:
        wrong[:] = [name for name, finding in findings.items() if finding["status"] != "ok"]
        return code == 0 and not wrong

    wrong: list[str] = []
    until(lambda code, findings: is_well(code, findings) or bool(wrong))
    while wrong:
        until(is_well, *wrong)
        until(lambda code, findings: is_well(code, findings) or bool(wrong))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", list(FAULTS.values()), ids=lambda fault: fault.name)
def test_a_fault_is_an_alert_until_it_is_healed(fault: Fault, healthy: Path) -> None:
    def is_named(_: int, findings: Findings) -> bool:
        """Return whether the finding is an alert that names the broken node and, once it is complete, no other."""
        finding = findings[fault.finding]
        if not fault.part.startswith("node-") or fault.finding == "block_growth":  # a stall is that of all nodes
            return finding["status"] == "alert"
        others = set(finding["targets"]) - {fault.part} if fault.finding != "peer_count" else set()  # those it leaves
        return finding["status"] == "alert" and fault.part in finding["targets"] and not others

    missing = (sandbox_state.read(healthy) or {"missing": {}})["missing"]
    if fault.part in missing:
        pytest.skip(missing[fault.part])
    sandboxes.break_(fault.name, healthy)
    code, findings = until(is_named, fault.finding)
    finding = findings[fault.finding]
    assert code == (2 if finding["severity"] == "critical" else 1)
    assert finding["hint"], "what to do next"
    sandboxes.heal(fault.name, healthy)
    until_all_is_well()


@pytest.mark.timeout(900)
def test_the_report_of_a_broken_sandbox_names_the_fault_first(healthy: Path, tmp_path: Path) -> None:
    sandboxes.break_("database-down", healthy)
    code, record = run("report")
    assert code == 2 and record["verdict"] == "critical"
    assert record["complete"], "a part that is down does not make the report incomplete"
    assert record["findings"][0]["name"] == "database_reachable"
    (pool,) = [finding for finding in record["findings"] if finding["name"] == "pool"]
    assert pool["status"] == "unknown"
    page = (tmp_path / "outputs" / "reports" / "latest" / "index.html").read_text()
    assert "database_reachable" in page
