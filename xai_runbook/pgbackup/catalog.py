"""The content of a folder of backups: one folder per backup, with a manifest and, after a test, its verification.

A backup is made in `NAME.part` and renamed when it is complete; a folder without a manifest is not a backup.
Listing is cheap: sizes and times of the data files are compared with the manifest, their content is not read.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xai_runbook.errors import BadAnswer, Refused, inert
from xai_runbook.system.files import make_private_folder
from xai_runbook.system.locks import locked

MANIFEST, VERIFICATION, RECOVERY = "manifest.json", "verification.json", "recovery.json"
PART = ".part"
"""Suffix of unfinished backups."""
SCRATCH = ".scratch-"
PRUNED = ".pruned-"
RESTORE_LOG = ".restore.log"
Kind = Literal["dump", "cluster"]
State = Literal["verified", "unverified", "damaged"]
_NUMBERED = re.compile(r"(.+)-(\d{6,})")


@dataclass(frozen=True)
class Backup:
    """One backup, as read from its folder."""

    path: Path
    manifest: dict[str, Any]
    verification: dict[str, Any]
    state: State
    why: str
    """Why the state is not `verified`; empty if it is."""

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return self.path.name


def slug(database: str) -> str:
    """Return the first part of a backup's name: the database's name, safe for paths and shells."""
    return re.sub(r"[^A-Za-z0-9_]", "_", database)[:48] or "_"


def next_name(folder: Path, beginning: str) -> str:
    """Return the name of the next backup: the same for an unchanged folder, because numbers are not reused."""
    numbers = [
        int(match[2])
        for entry in _entries(folder)
        if (match := _NUMBERED.fullmatch(entry.name.removeprefix(PRUNED))) and match[1] == beginning
    ]
    return f"{beginning}-{max(numbers, default=0) + 1:06d}"


def read(folder: Path) -> list[Backup]:
    """Return every backup in the folder, oldest first. Errors: OSError if the folder cannot be read."""
    found = [
        read_one(entry)
        for entry in _entries(folder)
        if entry.is_dir() and not entry.name.startswith(".") and not entry.name.endswith(PART)
        if (entry / MANIFEST).exists()
    ]
    return sorted(found, key=lambda backup: (str(backup.manifest.get("taken_at", "")), backup.name))


def read_one(path: Path) -> Backup:
    """Return the backup in that folder; `damaged` if its manifest is not valid or a file differs from it in size."""
    from xai_runbook.pgbackup import records

    try:
        manifest = records.read(path / MANIFEST, records.Manifest)
    except BadAnswer as error:
        return Backup(path, {}, {}, "damaged", error.what)
    verification = {}
    with suppress(BadAnswer):
        verification = records.read(path / VERIFICATION, records.Verification)
    files = {name: file["size_bytes"] for name, file in manifest["files"].items()}
    state, why = _state(path, files, verification)
    return Backup(path, manifest, verification, state, why)


def named(folder: Path, name: str) -> Backup:
    """Return the backup of that name. Errors: BadAnswer if it does not exist or its manifest is not valid."""
    if "/" in name or name.startswith(".") or name.endswith(PART) or not (folder / name / MANIFEST).is_file():
        raise BadAnswer(f"there is no backup {inert(name, 80)}", on=str(folder), hint="backups.stored lists them")
    found = read_one(folder / name)
    if not found.manifest:
        raise BadAnswer(found.why, on=str(found.path), hint="make a new backup")
    return found


def recoveries(folder: Path) -> list[tuple[str, dict[str, Any], bool]]:
    """Return each rehearsed recovery, oldest first: name, record, whether its cluster was kept. Errors: BadAnswer."""
    from xai_runbook.pgbackup import records

    found = []
    for entry in _entries(folder):
        if not entry.name.startswith(".") and not entry.name.endswith(PART) and (entry / RECOVERY).is_file():
            record = records.read(entry / RECOVERY, records.Recovery)
            found.append((entry.name, record, (entry / "data").is_dir()))
    return found


def leftovers(folder: Path) -> dict[str, int]:
    """Return name and size in bytes of what killed runs left in the folder; the next run removes it."""
    return {
        entry.name: sum(file.lstat().st_size for file in (entry, *entry.rglob("*")) if file.is_file())
        for entry in _entries(folder)
        if entry.name.endswith(PART) or entry.name.startswith((SCRATCH, PRUNED, RESTORE_LOG))
    }


def remove_leftovers(folder: Path, say: Callable[[str], None]) -> None:
    """Remove what killed runs left. The caller must hold the lock of the folder."""
    for name in leftovers(folder):
        say(f"removing {name}, left by an interrupted run")
        shutil.rmtree(folder / name, ignore_errors=True)
        with suppress(OSError):
            (folder / name).unlink()


def inventory(folder: Path) -> dict[str, int]:
    """Return each entry of the folder except logs and locks, with the mtime of its verification in ns (0: none)."""
    found = {}
    for entry in _entries(folder):
        verified = entry / VERIFICATION
        if not entry.name.startswith(".") or entry.name.startswith((SCRATCH, PRUNED)):
            found[entry.name] = verified.stat().st_mtime_ns if verified.is_file() else 0
    return found


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock the folder for this process. Errors: Refused if another process has locked it."""
    with ExitStack() as stack:
        try:
            make_private_folder(folder)
            stack.enter_context(locked(folder / ".lock", wait_seconds=0))
        except BlockingIOError:
            raise Refused(
                "another run is using this folder of backups", on=str(folder), hint="wait until it has finished"
            ) from None
        except OSError as error:
            raise Refused(f"the folder of backups cannot be used: {error.strerror}", on=str(folder)) from None
        yield


def sizes_and_sums(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file below the folder."""
    return {
        path.relative_to(folder).as_posix(): {"size_bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name not in (MANIFEST, VERIFICATION)
    }


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**22):
            digest.update(piece)
    return digest.hexdigest()


def stamps(path: Path, manifest: dict[str, Any]) -> dict[str, int]:
    """Return when each file of the backup was last written (Unix time in nanoseconds)."""
    return {name: (path / name).stat().st_mtime_ns for name in manifest["files"]}


def record(path: Path, verification: dict[str, Any]) -> None:
    """Write the result of a verification beside the backup."""
    from xai_runbook.pgbackup import records

    content = {"manifest_sha256": sha256(path / MANIFEST), **verification}
    records.write(path / VERIFICATION, records.Verification, content)


def _state(path: Path, files: dict[str, int], verification: dict[str, Any]) -> tuple[State, str]:
    for name, size in files.items():
        try:
            found = (path / name).stat().st_size
        except OSError:
            return "damaged", f"{name} is missing"
        if found != size:
            return "damaged", f"{name} has {found} bytes instead of {size}"
    if not verification:
        return "unverified", "it was never restored"
    if verification["manifest_sha256"] != sha256(path / MANIFEST):
        return "unverified", "its manifest was changed after it was verified"
    if not verification["ok"]:
        return "damaged", inert(verification["why"] or "its last verification failed", 200)
    stamps = verification["stamps"]
    changed = [name for name in files if (path / name).stat().st_mtime_ns != stamps.get(name)]
    if changed:
        return "unverified", f"{changed[0]} was written after it was verified"
    return "verified", ""


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []
