"""`make bench`: runs every benchmark, compared with an alternative, and writes outputs/bench.json.

A benchmark is a module of this package with `rows()`: name, value, unit, against, ratio, goal, better. Its ratio is the
median over pairs of runs, ours and the alternative's in turn, so that a busy machine slows both. To run one benchmark:
`python -m benchmarks startup`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES = ("startup", "range_query", "report", "changes", "questions", "backups")
OUTPUT = Path("outputs/bench.json")


def met(row: dict[str, Any]) -> bool:
    """Return whether the ratio meets its goal."""
    return bool(row["ratio"] >= row["goal"] if row["better"] == "higher" else row["ratio"] <= row["goal"])


def line(row: dict[str, Any]) -> str:
    """Return one line of the table."""
    sign = ">=" if row["better"] == "higher" else "<="
    goal = f"{row['ratio']:8.3f}  {sign} {row['goal']:<5g} {'met' if met(row) else 'MISSED'}"
    return f"{row['name']:<52} {row['value']:9.3f} {row['unit']:<8} {goal:<27}  {row['against']}"


def main(chosen: list[str]) -> int:
    """Run benchmarks, print the table and write the file; return 1 if a goal is missed."""
    # installed packages have bytecode files; without them only our editable install would be slow
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = []
    print(f"{'benchmark':<52} {'value':>9} {'':<8} {'ratio':>8}  {'goal':<17} against")
    for module in chosen or MODULES:
        started = time.monotonic()
        for row in import_module(f"benchmarks.{module}").rows():
            rows.append(row)
            print(line(row), flush=True)
        print(f"  ({module}: {time.monotonic() - started:.0f} s)", flush=True)
    OUTPUT.parent.mkdir(exist_ok=True)
    draft = OUTPUT.with_suffix(".json.part")
    draft.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    draft.replace(OUTPUT)
    return 0 if all(met(row) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
