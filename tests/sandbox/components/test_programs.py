"""The server programs: where they are found, and what is reported about missing ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from xai_runbook.errors import InputError
from xai_runbook.sandbox.components import programs


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use an empty cache folder, no system programs and no downloads, unless a test enables them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "no")
    monkeypatch.setenv("XAI_RUNBOOK_FETCH", "no")


def program(folder: Path, name: str, script: str = "exit 0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    return folder / name


def test_postgresql_and_valkey_are_found_in_the_wheels() -> None:
    for name in ("postgres", "valkey-server"):
        path = programs.find(name)
        assert path is not None
        assert "site-packages" in path.parts
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=30)
        assert "ostgre" in version.stdout or "alkey" in version.stdout


def test_a_missing_program_has_a_reason_and_instructions() -> None:
    missing = programs.missing()
    assert set(missing) == {name for name in programs.PROGRAMS if programs.PROGRAMS[name].package}
    assert "PATH is not searched for prometheus" in missing["prometheus"]
    assert "downloads are disabled" in missing["prometheus"]
    assert "apt-get install prometheus" in missing["prometheus"]


def test_fetch_downloads_nothing_when_disabled(tmp_path: Path) -> None:
    progress: list[str] = []
    assert "prometheus" in programs.fetch(["prometheus"], progress.append)
    assert progress == []
    assert not (tmp_path / "cache").exists()


def test_path_is_searched_first_under_every_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = program(tmp_path / "bin", "node_exporter")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert programs.find("prometheus-node-exporter") is None, "system programs are disabled"
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "yes")
    assert programs.find("prometheus-node-exporter") == expected


def test_a_postgres_without_initdb_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = program(tmp_path / "bin", "postgres")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "yes")
    assert programs.find("postgres") != server
    program(tmp_path / "bin", "initdb")
    assert programs.find("postgres") == server


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(InputError, match="unknown sandbox program"):
        programs.find("mysqld")


def test_a_failed_download_is_reported_and_not_retried_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    assert [path.name for path in (programs.folder()).iterdir()] == ["prometheus.failed"]


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Yield a folder of packages, `NAME_VERSION_all.deb`, and put an apt-get on PATH that offers exactly these.

    It plans to install what the folder's file `plan` says, and writes its arguments to `calls`.
    """
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb not found")
    folder = tmp_path / "debian"
    folder.mkdir()
    program(
        tmp_path / "bin",
        "apt-get",
        f"""echo "$@" >> {folder}/calls
        case "$*" in
        *" update") exit 0;;
        *" -s install "*) cat {folder}/plan; exit 0;;
        esac
        while [ "$1" != -- ]; do shift; done; shift
        for name; do
            ls {folder}/"$name"_* >/dev/null 2>&1 || {{ echo "E: Unable to locate package $name" >&2; exit 100; }}
            cp {folder}/"$name"_* .
        done""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XAI_RUNBOOK_FETCH", "yes")
    return folder


def package(debian: Path, name: str, files: dict[str, str], depends: str = "") -> None:
    """Create a package of these files, each a shell script with the given body."""
    tree = debian / name
    for path, script in files.items():
        program((tree / path).parent, Path(path).name, script)
    control = f"Package: {name}\nVersion: 9\nArchitecture: all\nMaintainer: nobody <a@b>\nDescription: x\n"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
    subprocess.run(["dpkg-deb", "-b", tree, debian / f"{name}_9_all.deb"], check=True, capture_output=True, timeout=30)
    shutil.rmtree(tree)


def test_a_package_is_unpacked_into_the_cache_folder(debian: Path, tmp_path: Path) -> None:
    package(debian, "prometheus-node-exporter", {"usr/bin/prometheus-node-exporter": "exit 0"})
    progress: list[str] = []
    assert programs.fetch(["prometheus-node-exporter"], progress.append) == {}
    assert progress == ["downloading prometheus-node-exporter"]
    path = programs.find("prometheus-node-exporter")
    assert path is not None
    assert tmp_path / "cache" in path.parents
    assert programs.library_path("prometheus-node-exporter") == {}


def test_a_package_whose_program_does_not_run_is_discarded(debian: Path) -> None:
    package(
        debian, "prometheus-node-exporter",
        {"usr/bin/prometheus-node-exporter": "echo 'wrong libraries' >&2; exit 127"},
    )  # fmt: skip
    assert "wrong libraries" in programs.fetch(["prometheus-node-exporter"])["prometheus-node-exporter"]
    assert programs.find("prometheus-node-exporter") is None


def test_one_unavailable_package_does_not_block_the_others(debian: Path, tmp_path: Path) -> None:
    package(debian, "prometheus-node-exporter", {"usr/bin/prometheus-node-exporter": "exit 0"})
    package(debian, "pgbouncer", {"usr/sbin/pgbouncer": "exit 0"})
    missing = programs.fetch(["prometheus", "promtool", "prometheus-node-exporter", "pgbouncer"])
    assert set(missing) == {"prometheus", "promtool"}
    for name, reason in missing.items():
        assert f"PATH is not searched for {name}" in reason
        assert "could not be downloaded: apt-get exited with 100: E: Unable to locate package prometheus" in reason
        assert reason.endswith("put prometheus and promtool on PATH")
    kept = {path.name for path in (programs.folder()).iterdir()}
    assert kept == {"prometheus.failed", "prometheus-node-exporter", "pgbouncer"}
    # after ten minutes it is tried again
    package(debian, "prometheus", {"usr/bin/prometheus": "exit 0", "usr/bin/promtool": "exit 0"})
    assert set(programs.fetch(["prometheus"])) == {"prometheus"}
    note = programs.folder() / "prometheus.failed"
    os.utime(note, (0, 0))
    abandoned, current = programs.folder() / ".fetch-old", programs.folder() / ".fetch-new"
    abandoned.mkdir()
    current.mkdir()
    os.utime(abandoned, (0, 0))
    assert programs.fetch(["prometheus"]) == {}
    assert current.exists() and not abandoned.exists()


def test_a_failure_dated_in_the_future_is_retried(debian: Path) -> None:
    assert set(programs.fetch(["prometheus"])) == {"prometheus"}
    package(debian, "prometheus", {"usr/bin/prometheus": "exit 0", "usr/bin/promtool": "exit 0"})
    os.utime(programs.folder() / "prometheus.failed", (time.time() + 86_400,) * 2)
    assert programs.fetch(["prometheus"]) == {}


def test_libraries_are_the_dependencies_that_apt_names(
    debian: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Covers a renamed library (libevent-2.1-7t64) and a nested one; other dependencies are ignored."""
    check = '[ -e "${LD_LIBRARY_PATH:-/none}/libevent.so.7" ] && [ -e "$LD_LIBRARY_PATH/libdeep.so.1" ]'
    package(
        debian, "pgbouncer", {"usr/sbin/pgbouncer": f"{check} || {{ echo 'no libevent' >&2; exit 127; }}"},
        "adduser, libevent-2.1-7t64 (>= 2.1), libc6 (>= 2.41), lsb-base | sysvinit, libjs-moment, init-system-helpers",
    )  # fmt: skip
    package(debian, "libevent-2.1-7t64", {"usr/lib/x86_64-linux-gnu/libevent.so.7": ""}, "libdeep1")
    package(debian, "libdeep1", {"usr/lib/x86_64-linux-gnu/libdeep.so.1": ""})
    names = ("init-system-helpers", "libdeep1", "libevent-2.1-7t64", "lsb-base", "libunrelated1", "pgbouncer")
    plan = "".join(f"Inst {name} (1-2 Debian:13/stable [amd64])\n" for name in names)
    plan += "".join(f"Inst {name} (1-2 Debian:13/stable [all])\n" for name in ("adduser", "libjs-moment"))
    (debian / "plan").write_text(f"{plan}Inst libc6 [2.36] (2.41 Debian:13/stable [amd64])\nConf pgbouncer (1-2)\n")
    program(
        tmp_path / "bin",
        "ldd",
        """printf '\\tlibc.so.6 => /lib/libc.so.6 (0x1)\\n'
        for name in libevent.so.7 libdeep.so.1; do
            [ -e "${LD_LIBRARY_PATH:-/none}/$name" ] || { printf '\\t%s => not found\\n' $name; exit 0; }
        done""",
    )
    assert programs.fetch(["pgbouncer"]) == {}
    requested = [line.partition(" -- ")[2] for line in (debian / "calls").read_text().splitlines()]
    assert requested == ["pgbouncer", "pgbouncer", "libevent-2.1-7t64", "libdeep1"]
    folder = programs.folder() / "pgbouncer" / "usr" / "lib" / "x86_64-linux-gnu"
    assert programs.library_path("pgbouncer") == {"LD_LIBRARY_PATH": str(folder)}


def test_a_program_in_a_package_of_its_own_is_found(debian: Path) -> None:
    package(debian, "prometheus", {"usr/bin/prometheus": "exit 0"}, "adduser, libjs-moment, promtool, libc6 (>= 2.34)")
    package(debian, "promtool", {"usr/bin/promtool": "exit 0"})
    plan = "Inst libjs-moment (2-4 Debian:13/stable [all])\nInst promtool (2.53.3+ds1-2 Debian:13.8/stable [amd64])\n"
    (debian / "plan").write_text(plan)
    assert programs.fetch(["promtool", "prometheus"]) == {}
    assert programs.find("promtool")
    requested = [line.partition(" -- ")[2] for line in (debian / "calls").read_text().splitlines()]
    assert requested == ["prometheus", "prometheus", "promtool"]


def test_a_library_that_no_package_contains_is_named(debian: Path, tmp_path: Path) -> None:
    package(debian, "pgbouncer", {"usr/sbin/pgbouncer": "exit 127"}, "libevent-2.1-7")
    (debian / "plan").write_text("Inst pgbouncer (1-2 Debian:13/stable [amd64])\n")
    program(tmp_path / "bin", "ldd", "printf '\\tlibevent.so.7 => not found\\n'")
    assert "pgbouncer needs libevent.so.7, which none of its dependencies" in programs.fetch(["pgbouncer"])["pgbouncer"]
    assert programs.find("pgbouncer") is None
