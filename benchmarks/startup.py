"""`import xai_runbook` and `xai-runbook --help` against an empty Python."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PAIRS = 21
EMPTY = [sys.executable, "-c", "pass"]
COMMAND = Path(sys.executable).with_name("xai-runbook")


def _seconds(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _against_empty(argv: list[str], pairs: int) -> tuple[float, float]:
    """Return the median seconds of `argv`, and the median of its ratios to an empty Python program."""
    _seconds(argv), _seconds(EMPTY)  # the first run writes bytecode
    runs = [(_seconds(argv), _seconds(EMPTY)) for _ in range(pairs)]
    return statistics.median(run[0] for run in runs), statistics.median(run[0] / run[1] for run in runs)


def rows(pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Return the rows of the benchmark: name, value, unit, against, ratio, goal, better."""
    result = []
    for name, argv, goal in (
        ("import xai_runbook", [sys.executable, "-c", "import xai_runbook"], 3.0),
        ("xai-runbook --help", [str(COMMAND), "--help"], 5.0),
    ):
        seconds, ratio = _against_empty(argv, pairs)
        result.append(
            {"name": name, "value": seconds, "unit": "seconds", "against": "python -c pass", "ratio": ratio,
             "goal": goal, "better": "lower"}
        )  # fmt: skip
    return result


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.3f} s, {row['ratio']:.2f} of {row['against']} (goal {row['goal']})")
