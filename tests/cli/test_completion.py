"""Completion scripts are valid, and complete commands, options, names and environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "xai_runbook.cli.main", "completion"]
COMPLETE = """
source "$1"; shift
COMP_WORDS=(xai-runbook "$@"); COMP_CWORD=$#
_shtab_xai_runbook
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(folder: Path, shell: str) -> Path:
    path = folder / f"completion.{shell}"
    path.write_text(subprocess.run([*COMMAND, shell], capture_output=True, text=True, check=True).stdout)
    return path


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return script(tmp_path_factory.mktemp("completion"), "bash")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["che"], ["check"]),
        (["check", "block_gr"], ["block_growth"]),
        (["ack", "--remove", "disk_fr"], ["disk_free"]),
        (["plan", "database.termin"], ["database.terminate"]),
        (["plan", "database.terminate", "--pi"], ["--pids"]),
        (["sandbox", "break", "node-st"], ["node-stopped"]),
        (["report", "--notebook", "06"], ["06_troubleshooting"]),
        (["journal", "recon"], ["reconcile"]),
        (["journal", "reconcile", "1", "--as", ""], ["done", "failed"]),
        (["check", "--env", "m"], ["mine"]),
        (["--env", "m"], ["mine"]),
    ],
)
def test_bash_completes(words: list[str], completed: list[str], bash_script: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("")
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XAI_RUNBOOK_CONFIG": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", str(bash_script), *words],
        env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == completed, done.stderr


def test_the_zsh_script_names_what_is_completed(tmp_path: Path) -> None:
    path = script(tmp_path, "zsh")
    text = path.read_text()
    assert text.startswith("#compdef xai-runbook\n")
    for name in ("block_growth", "database.terminate", "--pids", "node-stopped", "_xai_runbook_environments"):
        assert name in text
    if shutil.which("zsh"):
        assert subprocess.run(["zsh", "-n", str(path)], check=False).returncode == 0


def test_environments_are_listed_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("")
    done = subprocess.run(
        [*COMMAND, "environments"], env=os.environ | {"XAI_RUNBOOK_CONFIG": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {"mine", "sandbox"} <= set(done.stdout.splitlines())
