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
    """Median seconds of `argv`, and the median of its ratios to an empty Python run right after it."""
    _seconds(argv), _seconds(EMPTY)  # the first run writes bytecode
    runs = [(_seconds(argv), _seconds(EMPTY)) for _ in range(pairs)]
    return statistics.median(ours for ours, _ in runs), statistics.median(ours / empty for ours, empty in runs)


def rows(pairs: int = PAIRS) -> list[dict[str, Any]]:
    """Rows for the bench: name, value, unit, against, ratio, goal, better."""
    found = []
    for name, argv, goal in (
        ("import xai_runbook", [sys.executable, "-c", "import xai_runbook"], 3.0),
        ("xai-runbook --help", [str(COMMAND), "--help"], 5.0),
    ):
        seconds, ratio = _against_empty(argv, pairs)
        found.append(
            {"name": name, "value": seconds, "unit": "seconds", "against": "python -c pass", "ratio": ratio,
             "goal": goal, "better": "lower"}
        )  # fmt: skip
    return found


if __name__ == "__main__":
    for row in rows():
        print(f"{row['name']}: {row['value']:.3f} s, {row['ratio']:.2f} of {row['against']} (goal {row['goal']})")
