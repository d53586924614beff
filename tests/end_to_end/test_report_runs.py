"""`make report` on a healthy sandbox exits 0, every time: many runs in a row, on an idle machine and on a busy one.

`make torture ARGS="-k report_runs"` prints each run and the counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xai_runbook.system import sandbox_state

CLI = [sys.executable, "-P", "-m", "xai_runbook.cli.main"]
BUSY = "while True: pass"


@contextmanager
def busy() -> Iterator[None]:
    """Keep every processor busy."""
    loads = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for load in loads:
            load.kill()
        for load in loads:
            load.wait()


def report(folder: Path) -> str:
    """Run what `make report` runs, with a fresh sandbox folder and no template cache; return how it ended."""
    cache = folder / "cache" / "xai-runbook"
    cache.mkdir(parents=True)
    (cache / "programs").symlink_to(sandbox_state.cache_folder() / "programs")  # nothing is downloaded again
    environment = os.environ | {"XAI_RUNBOOK_SANDBOX": str(folder / "run"), "XDG_CACHE_HOME": str(cache.parent)}
    command = [*CLI, "sandbox", "run", "--", *CLI, "report", "--env", "sandbox", "--json"]
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    try:
        record = json.loads(run.stdout)
    except ValueError:
        return f"exit {run.returncode}: {run.stderr[-300:]}"
    findings = [f["name"] for f in record["findings"] if f["status"] != "ok"]
    complete = "complete" if record["complete"] else "incomplete"
    return f"exit {run.returncode}, {record['verdict']}, {complete} {findings}"


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("runs", "load"), [pytest.param(30, False, id="idle"), pytest.param(10, True, id="busy")])
def test_report_runs_end_ok_every_time(
    runs: int, load: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends: Counter[str] = Counter()
    for number in range(runs):
        began = time.monotonic()
        folder = tmp_path / str(number)
        if load:
            with busy():
                end = report(folder)
        else:
            end = report(folder)
        ends[end] += 1
        with capsys.disabled():
            print(f"{number + 1:3} of {runs}: {end}, {time.monotonic() - began:.1f} s", flush=True)
    with capsys.disabled():
        print(dict(ends), flush=True)
    assert set(ends) == {"exit 0, ok, complete []"}
