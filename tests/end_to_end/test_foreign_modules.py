"""Foreign modules and programs in the working folder, in PYTHONPATH and in PATH are never run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.written import cell, write

MODULES = (
    "argparse", "json", "pandas", "psycopg", "orjson", "numpy", "tornado", "matplotlib", "ipykernel", "papermill",
    "sitecustomize", "usercustomize", "ipython_config", "xai_runbook/__init__", "xai_runbook/pgbackup/__init__",
    "xai_runbook/pgbackup/__main__", "xai_runbook/reports/runner/worker", "xai_runbook/sandbox/node/__main__",
)  # fmt: skip
PROGRAMS = ("setpriv", "unshare", "true", "cp", "sh", "ssh", "pg_dump", "pg_restore", "promtool", "postgres")
FORBIDDEN = ("PYTHONPATH=", "PYTHONSTARTUP=", "PYTHONHOME=", "LD_PRELOAD=", "A_SECRET=")


@dataclass
class Hostile:
    """A working folder full of foreign modules, and commands that are run in it."""

    folder: Path
    run_folder: Path

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command; -I keeps the foreign modules out of its own process, and its children must not import them."""
        variables = os.environ | {
            "PYTHONPATH": str(self.folder), "PYTHONSTARTUP": str(self.folder / "json.py"), "A_SECRET": "hunter2",
            "LD_PRELOAD": "", "LD_LIBRARY_PATH": str(self.folder), "PATH": f".::{os.environ['PATH']}",
            "XAI_RUNBOOK_SANDBOX": str(self.run_folder), "XDG_STATE_HOME": str(self.folder.parent / "state"),
            "XAI_RUNBOOK_CHANGES__HEADLESS": '["backups.dump"]',
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, "-I", "-m", "xai_runbook.cli.main", *words], cwd=self.folder, env=variables,
            capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def executed(self) -> list[str]:
        """Return the names of the foreign modules and programs that were run."""
        return sorted(path.name for path in (self.folder.parent / "executed").iterdir())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    place = tmp_path_factory.mktemp("hostile")
    (place / "executed").mkdir()
    folder = place / "work"
    for name in MODULES:
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        marker = place / "executed" / name.replace("/", ".")
        path.write_text(f"open({str(marker)!r}, 'w').close()\nraise ImportError('foreign')\n", encoding="utf-8")
    for name in PROGRAMS:
        (folder / name).write_text(f"#!/bin/sh\n: > {place}/executed/{name}\nexit 1\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    found = Hostile(folder, place / "run")
    try:
        yield found
    finally:
        found("sandbox", "down")


@pytest.fixture(scope="module")
def up(hostile: Hostile) -> Hostile:
    """A sandbox that was started in that folder."""
    done = hostile("sandbox", "up", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return hostile


def test_s1_the_sandbox_runs_no_foreign_module_and_keeps_no_foreign_variable(up: Hostile) -> None:
    state = json.loads((up.run_folder / "state.json").read_text())
    pids = {"supervisor": state["pid"]} | {name: part["pid"] for name, part in state["parts"].items()}
    environments = {name: Path(f"/proc/{pid}/environ").read_bytes() for name, pid in pids.items()}
    foreign = [text.encode() for text in (*FORBIDDEN, "hunter2", str(up.folder))]
    assert [name for name, variables in environments.items() if any(text in variables for text in foreign)] == []
    assert {os.readlink(f"/proc/{pid}/cwd") for pid in pids.values()}.isdisjoint({str(up.folder)})
    assert up.executed() == []


@pytest.mark.parametrize("words", [("ping",), ("check",), ("rules", "--check")], ids=" ".join)
def test_s1_a_command_runs_no_foreign_module(up: Hostile, words: tuple[str, ...]) -> None:
    done = up(*words)
    assert "Traceback" not in done.stderr
    assert up.executed() == []


def test_s1_a_report_s_kernel_imports_nothing_from_beside_its_notebook(up: Hostile) -> None:
    source = (
        "import os, sys, pandas, orjson\n"
        "names = [name for name in os.environ if name in ('PYTHONPATH', 'PYTHONSTARTUP', 'A_SECRET', 'LD_PRELOAD')]\n"
        f"assert not names and os.getcwd() != {str(up.folder)!r} and '' not in sys.path, names\n"
        f"open({str(up.folder.parent / 'seen')!r}, 'w').write(pandas.__file__)"
    )
    path = write(up.folder, "beside", cell("imports", source))
    done = up("report", "--notebook", str(path), "--out", str(up.folder.parent / "reports"))
    assert "site-packages" in (up.folder.parent / "seen").read_text(), done.stdout + done.stderr
    assert up.executed() == []


def test_s1_a_backup_s_step_runs_no_foreign_module(up: Hostile) -> None:
    plan = up.folder.parent / "dump.json"
    planned = up("plan", "backups.dump", "--out", str(plan))
    assert planned.returncode == 0, planned.stderr
    applied = up("apply", str(plan))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert up.executed() == []


def test_s20_a_program_that_is_asked_its_version_inherits_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xai_runbook.pgbackup.pg_tools import major_version

    program = tmp_path / "pg_dump"
    program.write_text(f"#!{shutil.which('sh')}\nenv > {tmp_path}/seen\necho 'pg_dump (PostgreSQL) 15.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("A_SECRET", "hunter2")
    assert major_version(program) == 15
    assert "hunter2" not in (tmp_path / "seen").read_text()
