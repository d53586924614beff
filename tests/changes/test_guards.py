"""Each promise has a guard in the code: without it, the promise's test fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GUARDS = __import__("tomllib").loads((HERE / "guards.toml").read_text(encoding="utf-8"))["guard"]
PROMISED = ["P2", "P3", "P5", "P6", "P7", "P8", "P10", "P11", "P12", "P13", "P14", "P15", "P16", "P18", "P20", "P21"]


@pytest.fixture(scope="module")
def runs(checkout: Path, sandbox: dict[str, object]) -> Iterator[dict[str, dict[str, object]]]:
    """Results of each promise's test without its guard, by promise."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.changes.guard_runs"], cwd=checkout, stdout=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, env=os.environ | {"GUARDS_SANDBOX": os.environ["XAI_RUNBOOK_SANDBOX"]},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield {row["promise"]: row for row in map(json.loads, process.stdout)}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard["promise"])
def test_a_guard_stands_where_the_table_says(guard: dict[str, str], checkout: Path) -> None:
    text = (checkout / "xai_runbook" / guard["file"]).read_text(encoding="utf-8")
    assert text.count(guard["code"]) == 1
    file, _, test = guard["test"].partition("::")
    assert f"def {test.partition('[')[0]}(" in (HERE.parent / file).read_text(encoding="utf-8")


def test_every_promise_has_a_guard() -> None:
    kept = {re.match(r"P\d+", guard["promise"])[0] for guard in GUARDS}  # type: ignore[index]
    assert set(PROMISED) <= kept
    assert len({guard["promise"] for guard in GUARDS}) == len(GUARDS)


@pytest.mark.timeout(1200)  # the first of them waits for all the runs
@pytest.mark.parametrize("promise", [guard["promise"] for guard in GUARDS])
def test_without_its_guard_a_promise_is_broken(promise: str, runs: dict[str, dict[str, object]]) -> None:
    output = str(runs[promise]["output"])
    assert runs[promise]["code"] == 1, output
    assert " failed" in output and " error" not in output.splitlines()[-1], output
