"""What a folder of backups holds: one folder a backup, with a manifest and, once it was tried, its verification.

A backup is made in `NAME.part` and gets its name when it is whole, so a name without a manifest is not one of ours.
Reading costs a few small files each: sizes and times of the data files are looked at, their content is not.
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
from xai_runbook.system.files import make_private
from xai_runbook.system.locks import locked

MANIFEST, VERIFICATION, RECOVERY = "manifest.json", "verification.json", "recovery.json"
PART = ".part"
"""The ending of what is still being made."""
SCRATCH = ".scratch-"
PRUNED = ".pruned-"
RESTORE_LOG = ".restore.log"
Kind = Literal["dump", "cluster"]
State = Literal["verified", "unverified", "damaged"]
_NUMBERED = re.compile(r"(.+)-(\d{6,})")


@dataclass(frozen=True)
class Backup:
    """One backup as its folder tells it."""

    path: Path
    manifest: dict[str, Any]
    verification: dict[str, Any]
    state: State
    why: str
    """Why it is not verified; empty where it is."""

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.path.name


def slug(database: str) -> str:
    """The beginning of a backup's name: the database's, with nothing in it that a path or a shell could mind."""
    return re.sub(r"[^A-Za-z0-9_]", "_", database)[:48] or "_"


def next_name(folder: Path, beginning: str) -> str:
    """The name that the next backup gets: numbers only go up, so the same folder always gives the same name."""
    numbers = [
        int(match[2])
        for entry in _entries(folder)
        if (match := _NUMBERED.fullmatch(entry.name.removeprefix(PRUNED))) and match[1] == beginning
    ]
    return f"{beginning}-{max(numbers, default=0) + 1:06d}"


def read(folder: Path) -> list[Backup]:
    """Every backup in the folder, oldest first. Errors: OSError where the folder cannot be read."""
    found = [
        read_one(entry)
        for entry in _entries(folder)
        if entry.is_dir() and not entry.name.startswith(".") and not entry.name.endswith(PART)
        if (entry / MANIFEST).exists()
    ]
    return sorted(found, key=lambda backup: (str(backup.manifest.get("taken_at", "")), backup.name))


def read_one(path: Path) -> Backup:
    """The backup in that folder; `damaged` where its manifest cannot be read or its files are not what it says."""
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
    """The backup of that name. Errors: BadAnswer where there is none, or its manifest cannot be read."""
    if "/" in name or name.startswith(".") or name.endswith(PART) or not (folder / name / MANIFEST).is_file():
        raise BadAnswer(f"there is no backup {inert(name, 80)}", on=str(folder), hint="backups.stored lists them")
    found = read_one(folder / name)
    if not found.manifest:
        raise BadAnswer(found.why, on=str(found.path), hint="it is no backup any more: make a new one")
    return found


def recoveries(folder: Path) -> list[tuple[str, dict[str, Any], bool]]:
    """Each rehearsed recovery in the folder, oldest first: its name, its record, whether its cluster was kept."""
    from xai_runbook.pgbackup import records

    found = []
    for entry in _entries(folder):
        if not entry.name.startswith(".") and not entry.name.endswith(PART) and (entry / RECOVERY).is_file():
            record = records.read(entry / RECOVERY, records.Recovery)
            found.append((entry.name, record, (entry / "data").is_dir()))
    return found


def leftovers(folder: Path) -> dict[str, int]:
    """What killed runs left in the folder, each with its bytes, sorted: no backups; the next run removes them."""
    return {
        entry.name: sum(file.lstat().st_size for file in (entry, *entry.rglob("*")) if file.is_file())
        for entry in _entries(folder)
        if entry.name.endswith(PART) or entry.name.startswith((SCRATCH, PRUNED, RESTORE_LOG))
    }


def remove_leftovers(folder: Path, say: Callable[[str], None]) -> None:
    """Removes what killed runs left. Only for who holds the folder."""
    for name in leftovers(folder):
        say(f"removing {name}, which a run that was ended had left")
        shutil.rmtree(folder / name, ignore_errors=True)
        with suppress(OSError):
            (folder / name).unlink()


def inventory(folder: Path) -> dict[str, int]:
    """What is in the folder, without logs and locks: each entry with the time of its verification, 0 for none."""
    found = {}
    for entry in _entries(folder):
        verified = entry / VERIFICATION
        if not entry.name.startswith(".") or entry.name.startswith((SCRATCH, PRUNED)):
            found[entry.name] = verified.stat().st_mtime_ns if verified.is_file() else 0
    return found


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """The folder for this process alone, as long as it lives. Errors: Refused where another one works in it."""
    with ExitStack() as stack:
        try:
            make_private(folder)
            stack.enter_context(locked(folder / ".lock", wait_seconds=0))
        except BlockingIOError:
            raise Refused(
                "another run works with these backups", on=str(folder), hint="wait until it is through"
            ) from None
        except OSError as error:
            raise Refused(f"the folder of backups cannot be used: {error.strerror}", on=str(folder)) from None
        yield


def sizes_and_sums(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file below the folder: its size and its SHA-256. `alive` is called between pieces, and may raise."""
    return {
        path.relative_to(folder).as_posix(): {"size_bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name not in (MANIFEST, VERIFICATION)
    }


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**22):
            digest.update(piece)
    return digest.hexdigest()


def stamps(path: Path, manifest: dict[str, Any]) -> dict[str, int]:
    """When each file of the backup was last written, in nanoseconds: a file that is touched later is another."""
    return {name: (path / name).stat().st_mtime_ns for name in manifest["files"]}


def record(path: Path, verification: dict[str, Any]) -> None:
    """Writes what came of trying the backup."""
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
