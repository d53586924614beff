"""The gate checks the messages of new commits, and says so where it cannot."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "commits.py"
GOOD = ("Add a check of commit messages", "Because long subjects are cut off.")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("commits", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("subject", "body", "fault"),
    [
        (*GOOD, ""),
        ("Bring the servers up", "So.", ""),
        ("Address a warning, and process it", "So.", ""),
        ("Add " + "x" * 69, "So.", "73 characters"),
        ("add a check", "So.", "capital letter"),
        ("Add one thing; add another", "So.", "semicolon"),
        ("Add a check.", "So.", "full stop"),
        ("Added a check", "So.", "imperative, not 'Added'"),
        ("Adding a check", "So.", "imperative, not 'Adding'"),
        ("Adds a check", "So.", "imperative, not 'Adds'"),
        ("Add a check", "\n", "body"),
    ],
)
def test_each_rule(script: ModuleType, subject: str, body: str, fault: str) -> None:
    found = script.faults(subject, body)
    assert len(found) == bool(fault)
    assert all(fault in each for each in found)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, subject: str, body: str) -> str:
    git(folder, "commit", "-q", "--allow-empty", "-m", subject, "-m", body)
    return git(folder, "rev-parse", "HEAD")


def check(folder: Path, base: str, **more: str) -> tuple[int, str]:
    """Exit code and output of the script in a checkout whose rule begins after `base`."""
    path = folder / ".ci" / "commits.py"
    path.parent.mkdir(exist_ok=True)
    text = SCRIPT.read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("BASE = ")]
    path.write_text(text.replace(line, f'BASE = "{base}"'), encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], env=os.environ | more, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, "this one is from before the rule;", "")
    return folder


def test_only_commits_after_the_base_are_checked(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, *GOOD)
    assert check(repository, base) == (0, "")
    bad = commit(repository, "Adds a check.", "So.")
    code, output = check(repository, base)
    assert code == 1
    assert output.splitlines() == [
        f"{bad[:7]} 'Adds a check.': the subject must not end with a full stop",
        f"{bad[:7]} 'Adds a check.': the subject must be imperative, not 'Adds'",
    ]


def test_a_shallow_clone_is_skipped(repository: Path, tmp_path: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, *GOOD)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", repository.as_uri(), str(clone))
    assert check(clone, base) == (0, f"skipped: this clone does not reach back to {base[:7]}\n")


def test_without_git_or_a_repository_it_is_skipped(tmp_path: Path) -> None:
    assert check(tmp_path, "0" * 40, PATH=str(tmp_path)) == (0, "skipped: git is not installed\n")
    ceiling = {"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    assert check(tmp_path, "0" * 40, **ceiling) == (0, "skipped: not a git repository\n")
