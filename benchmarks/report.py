"""`report` against plain papermill with the same notebooks, and `check` against plain papermill with the health report.

Needs a running sandbox: `xai-runbook sandbox run -- python -m benchmarks report`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from xai_runbook.reports.notebooks.cells import find, names

PAIRS = 3
COMMAND = Path(sys.executable).with_name("xai-runbook")
PAPERMILL = [sys.executable, "-m", "papermill", "--no-progress-bar"]


def _report(folder: Path) -> float:
    """Return the seconds of `xai-runbook report --all`. Errors: RuntimeError unless the report is complete."""
    started = time.perf_counter()
    command = [str(COMMAND), "report", "--env", "sandbox", "--all", "--json", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    seconds = time.perf_counter() - started
    _require_complete(done)
    return seconds


def _check(folder: Path) -> float:
    """Return the seconds of `xai-runbook check`. Errors: RuntimeError unless every question was answered."""
    started = time.perf_counter()
    command = [str(COMMAND), "check", "--env", "sandbox", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    seconds = time.perf_counter() - started
    _require_complete(done)
    return seconds


def _require_complete(done: subprocess.CompletedProcess[str]) -> None:
    try:
        complete = json.loads(done.stdout)["complete"]
    except (ValueError, KeyError):
        complete = False
    if not complete:
        raise RuntimeError(f"the report is not complete: {done.stdout[-300:]} {done.stderr[-300:]}")


def _papermill(notebooks: list[str], folder: Path) -> float:
    """Return the seconds of papermill with each notebook in turn. Errors: RuntimeError unless each ran to its end."""
    started = time.perf_counter()
    for name in notebooks:
        executed = folder / f"{name}.ipynb"
        command = [*PAPERMILL, "-p", "environment", "sandbox", str(find(name)), str(executed)]
        subprocess.run(command, capture_output=True, timeout=600, check=False)  # 1 where a question could not be asked
        code = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
        if not all(cell["execution_count"] for cell in code):
            raise RuntimeError(f"papermill did not run {name} to its end")
    return time.perf_counter() - started


def rows(pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Return the rows of the benchmark: name, value, unit, against, ratio, goal, better."""
    result = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, measure, notebooks, goal, against in (
            ("xai-runbook report --all", _report, names(), 0.5, f"papermill, {len(names())} notebooks in turn"),
            ("xai-runbook check", _check, ["health_report"], 0.3, "papermill health_report.ipynb"),
        ):
            runs = [(measure(folder), _papermill(notebooks, folder)) for _ in range(pairs)]
            result.append({
                "name": name, "value": statistics.median(seconds for seconds, _ in runs), "unit": "seconds",
                "against": against, "ratio": statistics.median(seconds / plain for seconds, plain in runs),
                "goal": goal, "better": "lower",
            })  # fmt: skip
    return result


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.2f} s, {row['ratio']:.3f} of {row['against']} (goal {row['goal']})")
