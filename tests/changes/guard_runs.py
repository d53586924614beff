"""Run one test for each guard, without that guard: `python -m tests.changes.guard_runs`, a JSON line each.

Each run is a fork of this process, which has the heavy imports behind it; it imports xai_runbook from a copy in which
the guard's code has been replaced, and so do the processes that the test starts.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import tomllib
import traceback
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - imported once, here, for all the forks
import pandas  # noqa: F401
import psycopg  # noqa: F401
import pydantic  # noqa: F401
import pytest

from tests.support.private_python import private_python

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
PACKAGE = CHECKOUT / "xai_runbook"


def guards() -> list[dict[str, str]]:
    """Return the rows of the table: promise, file, code, instead, test."""
    return list(tomllib.loads((HERE / "guards.toml").read_text(encoding="utf-8"))["guard"])


def without(guard: dict[str, str], place: Path) -> None:
    """Copy the package, with the guard replaced."""
    shutil.copytree(PACKAGE, place / "xai_runbook")  # with its bytecode, which stays true of what is not changed
    file = place / "xai_runbook" / guard["file"]
    file.write_text(file.read_text(encoding="utf-8").replace(guard["code"], guard["instead"]), encoding="utf-8")


def run(guard: dict[str, str], folder: Path) -> int:
    """In the fork: pytest's exit code, its output in the file `output`."""
    without(guard, folder)
    with (folder / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ["PYTHONSAFEPATH"] = "1"
    sys.executable = private_python(folder / "python", [folder, CHECKOUT])  # processes that the test starts, and theirs
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # else most of the time goes into plugins that nothing here uses
    sys.path[:] = [str(folder), str(CHECKOUT), *(path for path in sys.path if path)]
    import xai_runbook

    assert Path(xai_runbook.__file__).parent.parent == folder
    test = f"tests/{guard['test']}"
    needed = ["-p", "pytest_timeout", "-p", "no:cacheprovider", "--assert=plain", f"--basetemp={folder / 'tmp'}"]
    return int(pytest.main(["-q", "-x", *needed, test]))


def asks_the_server(guard: dict[str, str]) -> bool:
    """Whether its test changes the sandbox's database: those would meet in its lock, so they run one by one."""
    file, _, test = guard["test"].partition("::")
    text = (HERE.parent / file).read_text(encoding="utf-8")
    return "here: Environment" in text.partition(f"def {test.partition('[')[0]}(")[2].partition(":\n")[0]


def main() -> None:
    """Run them in two lanes."""
    os.chdir(CHECKOUT)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(enumerate(guards()))
        lanes = [[row for row in rows if asks_the_server(row[1]) is asks] for asks in (True, False)]
        running: dict[int, tuple[dict[str, str], Path, list[tuple[int, dict[str, str]]]]] = {}
        for lane in lanes:
            begin(lane, Path(folder), running)
        while running:
            child, status = os.wait()
            guard, place, lane = running.pop(child)
            begin(lane, Path(folder), running)
            output = (place / "output").read_text(errors="replace")
            row = {"promise": guard["promise"], "code": os.waitstatus_to_exitcode(status), "output": output[-3000:]}
            print(json.dumps(row), flush=True)


def begin(lane: list[tuple[int, dict[str, str]]], folder: Path, running: dict[int, Any]) -> None:
    """Start the next run of a lane, if there is one."""
    if not lane:
        return
    number, guard = lane.pop(0)
    place = folder / str(number)
    place.mkdir()
    child = os.fork()
    if not child:
        code = 99
        try:
            code = run(guard, place)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    running[child] = guard, place, lane


if __name__ == "__main__":
    main()
