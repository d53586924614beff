"""Each fault of the sandbox is named by its finding within a minute, and gone from it a minute after healing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xai_runbook import sandbox as sandboxes
from xai_runbook.sandbox.fault import FAULTS

SECONDS = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sandbox of our own to break, and the only one that these tests ask."""
    where = tmp_path_factory.mktemp("broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_RUNBOOK_SANDBOX", str(where))
        sandboxes.up(where)
        try:
            yield where
        finally:
            sandboxes.down(where)


def run(*words: str, cwd: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "xai_runbook.cli", *words, "--env", "sandbox", "--json"],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def until(cwd: Path, holds: Any, *names: str) -> tuple[float, int, dict[str, Any]]:
    """Seconds until `holds(findings by name)`, and the check that showed it; the last one where it never did."""
    started = time.monotonic()
    while True:
        code, told = run("check", *names, cwd=cwd)
        took = time.monotonic() - started
        if holds({finding["name"]: finding for finding in told["findings"]}) or took > SECONDS:
            return took, code, told


def every_ok(findings: dict[str, Any]) -> bool:
    return all(finding["status"] == "ok" for finding in findings.values())


def named(finding: dict[str, Any], part: str) -> bool:
    """Whether the alert names the broken part, where that is a node: others may be seen first."""
    reached = part in finding["targets"] or not part.startswith("node-") or finding["name"] == "block_height"
    return finding["status"] == "alert" and reached


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", list(FAULTS.values()), ids=lambda fault: fault.name)
def test_a_fault_is_named_and_its_healing_seen(fault: Any, folder: Path, tmp_path: Path) -> None:
    took, _, told = until(tmp_path, every_ok)
    assert took <= SECONDS, f"not healthy to begin with: {told}"
    sandboxes.break_(fault.name, folder)
    try:
        took, code, told = until(tmp_path, lambda findings: named(findings[fault.finding], fault.part), fault.finding)
        (finding,) = told["findings"]
        assert took <= SECONDS, finding
        assert code == (2 if finding["severity"] == "critical" else 1)
        # A node that loses its peers leaves the others with too few as well; a stall is judged over all nodes.
        if fault.part.startswith("node-") and fault.finding not in {"block_height", "peer_count"}:
            assert finding["targets"] == [fault.part]
        assert finding["hint"]
    finally:
        sandboxes.heal(fault.name, folder)
    took, code, told = until(tmp_path, every_ok)
    assert took <= SECONDS, [finding for finding in told["findings"] if finding["status"] != "ok"]
    assert code == 0


@pytest.mark.timeout(400)
def test_the_report_of_a_broken_sandbox_names_the_fault_first(folder: Path, tmp_path: Path) -> None:
    sandboxes.break_("database-down", folder)
    try:
        code, told = run("report", cwd=tmp_path)
    finally:
        sandboxes.heal("database-down", folder)
    assert code == 2 and told["verdict"] == "critical"
    assert told["complete"], "a part that is down is known, the report is whole"
    assert told["findings"][0]["name"] == "database_reachable"
    (pool,) = [finding for finding in told["findings"] if finding["name"] == "pool"]
    assert pool["status"] == "unknown"
    page = (tmp_path / "outputs" / "reports" / "latest" / "index.html").read_text()
    assert "database_reachable" in page
