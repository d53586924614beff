"""Programs are found where they are, and what is missing says how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from xai_runbook.errors import InputError
from xai_runbook.sandbox import programs


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache folder, nothing of the system, no downloads: each test allows what it is about."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "no")
    monkeypatch.setenv("XAI_RUNBOOK_FETCH", "no")


def program(folder: Path, name: str, does: str = "exit 0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return folder / name


def test_the_wheels_bring_postgresql_and_valkey() -> None:
    for name in ("postgres", "valkey-server"):
        found = programs.find(name)
        assert found is not None
        assert "site-packages" in found.parts
        told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=30)
        assert "ostgre" in told.stdout or "alkey" in told.stdout


def test_what_is_missing_says_why_and_how_to_get_it() -> None:
    missing = programs.missing()
    assert set(missing) == {name for name in programs.PROGRAMS if programs.PROGRAMS[name].package}
    assert "switched off" in missing["prometheus"]
    assert "apt-get install prometheus" in missing["prometheus"]


def test_fetch_downloads_nothing_when_told_not_to(tmp_path: Path) -> None:
    said: list[str] = []
    assert "prometheus" in programs.fetch(["prometheus"], said.append)
    assert said == []
    assert not (tmp_path / "cache").exists()


def test_path_comes_first_and_its_other_names_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = program(tmp_path / "bin", "node_exporter")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert programs.find("prometheus-node-exporter") is None, "system programs are switched off"
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "yes")
    assert programs.find("prometheus-node-exporter") == expected


def test_a_postgres_without_its_initdb_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lone = program(tmp_path / "bin", "postgres")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "yes")
    assert programs.find("postgres") != lone
    program(tmp_path / "bin", "initdb")
    assert programs.find("postgres") == lone


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(InputError, match="no program of the sandbox"):
        programs.find("mysqld")


def test_a_failed_download_is_reported_and_not_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    program(tmp_path / "bin", "apt-get", f'echo "$@" >> {calls}\necho "E: no network here" >&2\nexit 100')
    program(tmp_path / "bin", "dpkg-deb")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XAI_RUNBOOK_FETCH", "yes")
    first = programs.fetch(["prometheus"])
    assert "no network here" in first["prometheus"]
    assert "download" in calls.read_text()
    before = calls.read_text()
    assert "no network here" in programs.fetch(["prometheus"])["prometheus"]
    assert calls.read_text() == before
    assert [path.name for path in (tmp_path / "cache" / "xai-runbook" / "programs").iterdir()] == ["failed"]


def test_a_package_is_unpacked_into_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb here")
    tree = tmp_path / "tree"
    program(tree / "usr" / "bin", "prometheus-node-exporter")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: prometheus-node-exporter\nVersion: 9\nArchitecture: all\nMaintainer: nobody <a@b>\nDescription: x\n"
    )
    deb = tmp_path / "made.deb"
    subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, capture_output=True, timeout=30)
    program(tmp_path / "bin", "apt-get", f"cp {deb} prometheus-node-exporter_9_all.deb")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XAI_RUNBOOK_FETCH", "yes")
    said: list[str] = []
    assert programs.fetch(["prometheus-node-exporter"], said.append) == {}
    assert said == ["fetching prometheus-node-exporter"]
    found = programs.find("prometheus-node-exporter")
    assert found is not None
    assert tmp_path / "cache" in found.parents


def test_a_package_whose_program_does_not_run_here_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb here")
    tree = tmp_path / "tree"
    program(tree / "usr" / "bin", "prometheus-node-exporter", "echo 'wrong libraries' >&2; exit 127")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: prometheus-node-exporter\nVersion: 9\nArchitecture: all\nMaintainer: nobody <a@b>\nDescription: x\n"
    )
    deb = tmp_path / "made.deb"
    subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, capture_output=True, timeout=30)
    program(tmp_path / "bin", "apt-get", f"cp {deb} prometheus-node-exporter_9_all.deb")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XAI_RUNBOOK_FETCH", "yes")
    assert "wrong libraries" in programs.fetch(["prometheus-node-exporter"])["prometheus-node-exporter"]
    assert programs.find("prometheus-node-exporter") is None
