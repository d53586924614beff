"""The wheel works when it is installed outside of the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest


def run(*argv: str | Path, at: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program in `at`, without the variables of the tests' own Python."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL", "COV_"))}
    return subprocess.run(
        [str(word) for word in argv], cwd=at, capture_output=True, text=True, timeout=150, env={**inherited, **more}
    )


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, checkout, at=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel in it; its dependencies are those of this one, to be quick."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        at=folder,
    )
    assert pip.returncode == 0, pip.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    # a path in a .pth is added as it is: the editable install that stands in there is not followed
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_it_carries_all_that_is_read_at_run_time(wheel: Path, checkout: Path) -> None:
    carried = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(checkout).as_posix()
        for path in (checkout / "xai_runbook").rglob("*")
        if path.suffix in (".toml", ".sql", ".j2", ".py", ".typed", ".yml") and "__pycache__" not in path.parts
    } | {f"xai_runbook/notebooks/{path.name}" for path in (checkout / "notebooks").glob("*.ipynb")}
    assert len(wanted) > 50
    assert wanted - carried == set()
    assert [name for name in carried if not name.startswith(("xai_runbook/", "xai_runbook-"))] == []


def test_the_package_is_the_wheels(installed: Path, checkout: Path) -> None:
    shown = run(installed / "bin/python", "-c", "import xai_runbook; print(xai_runbook.__file__)", at=installed)
    assert Path(shown.stdout.strip()).is_relative_to(installed), shown.stdout + shown.stderr
    assert not Path(shown.stdout.strip()).is_relative_to(checkout)


def test_coverage_finds_the_notebooks_and_does_not_invent_tests(installed: Path) -> None:
    done = run(installed / "bin/xai-runbook", "coverage", "--json", at=installed)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(rows) == 144
    assert rows[26]["notebook"] == "02_monitoring"
    assert {row["tests"] is None for row in rows} == {True}


def test_the_report_runs_from_there(installed: Path, sandbox: dict[str, Any], tmp_path: Path) -> None:
    done = run(
        installed / "bin/xai-runbook",
        "report",
        "--env",
        "sandbox",
        "--out",
        tmp_path / "reports",
        "--json",
        at=tmp_path,
    )
    record = json.loads(done.stdout)
    assert record["complete"] is True, done.stderr
    assert [notebook["status"] for notebook in record["notebooks"]] == ["completed"]
    assert len(record["findings"]) >= 15
    assert done.returncode == {"ok": 0, "alert": 1, "critical": 2, "unknown": 3}[record["verdict"]]
    assert (tmp_path / "reports" / "latest" / "index.html").is_file()
