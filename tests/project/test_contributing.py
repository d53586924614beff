"""CONTRIBUTING.md is true to the letter: its question and its change are added to a copy of the checkout."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STEP = re.compile(
    r"(?:(?P<verb>Create|Append to|In|in)\s+`(?P<path>[^`]+)`(?:,\s+after\s+the\s+line\s+`(?P<line>[^`]+)`,\s+insert)?"
    r"|Run\s+this\s+with\s+`python`|run\s+this\s+with\s+`python`"
    r"|(?P<shell>Run it\.\*\*|assemble the health report)):?\n\n```\w+\n(?P<block>.*?)```",
    re.DOTALL,
)
SECTIONS = ("Add a question", "Add a change")


@pytest.fixture(scope="module")
def copy(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=checkout, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("copy")
    for name in filter(None, listed.stdout.split("\0")):
        if (checkout / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, folder / name)
    yield folder
    shutil.rmtree(folder)


def run(copy: Path, *argv: str) -> str:
    """Run this Python in the copy, whose package comes before the installed one."""
    found = os.environ | {"GUARDS_SANDBOX": os.environ["XAI_RUNBOOK_SANDBOX"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *argv], cwd=copy, env=found, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{shlex.join(argv)}\n{done.stdout}{done.stderr}"
    return done.stdout


def follow(copy: Path, step: re.Match[str]) -> None:
    """Do what one step of the page says."""
    block, path = step["block"], copy / (step["path"] or "")
    if step["verb"] == "Create":
        assert not path.exists()
        path.write_text(block, encoding="utf-8")
    elif step["verb"] == "Append to":
        with path.open("a", encoding="utf-8") as file:
            file.write(block)
    elif step["line"]:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (place,) = [number for number, line in enumerate(lines) if line.strip() == step["line"]]
        path.write_text("".join([*lines[: place + 1], block, *lines[place + 1 :]]), encoding="utf-8")
    elif step["shell"]:
        for line in block.splitlines():
            if line.startswith("python -m pytest "):
                run(copy, *shlex.split(line)[1:], "-q", "-p", "no:cacheprovider")
            elif line == "make format":
                run(copy, "-m", "ruff", "format")
            elif line == "make notebooks":
                run(copy, "-m", "xai_runbook.reports.notebooks.assemble")
    else:
        run(copy, "-c", block)


@pytest.mark.parametrize("section", SECTIONS)
def test_followed_to_the_letter(copy: Path, checkout: Path, section: str, sandbox: dict[str, Any]) -> None:
    text = (checkout / "CONTRIBUTING.md").read_text(encoding="utf-8").partition(f"## {section}\n")[2]
    steps = list(STEP.finditer(text.partition("\n## ")[0]))
    assert len(steps) == {"Add a question": 8, "Add a change": 7}[section]
    for step in steps:
        follow(copy, step)
    run(copy, "-m", "ruff", "format", "--check")
    run(copy, "-m", "ruff", "check")
    run(copy, "-m", "xai_runbook.reports.notebooks.assemble", "--check")
    assert section != "Add a change" or "database.set_autovacuum" in run(
        copy, "-m", "xai_runbook.cli.main", "plan", "list"
    )
