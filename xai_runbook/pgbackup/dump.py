"""Dumps: taken under one exported snapshot into `NAME.part`, read back completely, and then renamed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from xai_runbook.errors import BadAnswer, Refused, Unreachable, inert
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.fingerprint import Connection, Contents, connect, contents, fetch_rows, sequences
from xai_runbook.pgbackup.origin import address
from xai_runbook.pgbackup.pg_restore import ARCHIVE, ROLES, read_back
from xai_runbook.pgbackup.pg_tools import RunningProgram, find_programs, run

Say = Callable[[str], None]
LOCK_MILLISECONDS = 10_000


def dump(folder: Path, name: str, *, programs: str | None, form: str, jobs: int, compress: int, say: Say) -> None:
    """Make the backup `name` of the database that libpq's environment names. If it fails, nothing is left of it.

    Errors: BadAnswer (a program failed, with its messages), Refused, Unreachable, TimedOut, OSError (disk full).
    """
    if (folder / name).exists():
        raise Refused(f"backup {name} already exists", on=str(folder), hint="make a new plan")
    with part_folder(folder, name) as part, session() as source:
        started = time.monotonic()
        facts = source_facts(source)
        tools = find_programs(programs, int(facts["server_version"].split(".")[0]))
        snapshot = _snapshot(source)
        options: list[str | Path] = [
            "--format", form, "--compress", str(compress), "--snapshot", snapshot, "--no-password",
            "--lock-wait-timeout", str(LOCK_MILLISECONDS), "--file", part / ARCHIVE,
            *(["--jobs", str(jobs)] if form == "directory" else []),
        ]  # fmt: skip
        positions = sequences(source)
        running = RunningProgram([tools / "pg_dump", *options], log=part / ".log")
        try:
            counted, rights = _count(source, running, part / ARCHIVE, say), _extension_rights(source)
            running.wait(lambda: say(f"dumping, {_mebibytes(part / ARCHIVE)} MiB so far"))
            after = sequences(source)
            counted["sequences"] = {name: [position, after[name]] for name, position in positions.items()}
        finally:
            running.end()
        source.close()  # the rest reads files, and an open snapshot would hold back vacuum
        run(
            [tools / "pg_dumpall", "--roles-only", "--no-role-passwords", "--no-password", "--file", part / ROLES],
            log=part / ".log",
        )
        say("reading the archive back")
        read_back(tools, part / ARCHIVE, part / ".log", lambda: None)
        manifest: dict[str, Any] = {
            **facts,
            "kind": "dump",
            "format": form,
            "extension_rights": rights,
            "contents": counted,
            "seconds": round(time.monotonic() - started, 3),
            "program": run([tools / "pg_dump", "--version"], log=part / ".log").strip(),
        }
        finish(part, folder / name, manifest)


@contextmanager
def part_folder(folder: Path, name: str) -> Iterator[Path]:
    """Create the folder `NAME.part`, and remove it at the end of the with block unless it was renamed."""
    part = folder / f"{name}{catalog.PART}"
    part.mkdir(mode=0o700)
    try:
        yield part
    finally:
        if part.exists():
            import shutil

            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def session(**parameters: Any) -> Iterator[Connection]:
    """Connect to the database that libpq's environment names. Errors: Unreachable; BadAnswer if a statement fails."""
    target = f"{os.environ.get('PGHOST', os.environ.get('PGSERVICE', 'localhost'))}:{os.environ.get('PGPORT', '')}"
    try:
        connection = connect(**parameters)
    except psycopg.OperationalError as error:
        what = "the server rejected the password" if "password" in str(error) else "the connection to the server failed"
        raise Unreachable(what, on=target, hint="check [database.operator] in the settings") from None
    with connection:
        try:
            yield connection
        except psycopg.Error as error:
            raise BadAnswer(
                f"the server reported: {inert(error.diag.message_primary or type(error).__name__, 300)}", on=target
            ) from None


def source_facts(source: Connection) -> dict[str, Any]:
    """Return the facts about server and database for the manifest: see `sql/backups/backup_source.sql`."""
    (server,), (facts,) = fetch_rows(source, "identity"), fetch_rows(source, "backup_source")
    taken_at = datetime.now(UTC).isoformat(timespec="microseconds")
    identifier = {"system_identifier": server["system_identifier"], "server": address()}
    return {"taken_at": taken_at, **identifier, **facts}


def finish(part: Path, final: Path, manifest: dict[str, Any], files: dict[str, dict[str, Any]] | None = None) -> None:
    """Write the manifest, sync, and rename the folder: from then on the backup exists.

    `files` are the files with sums in the manifest; None: all files.
    """
    from xai_runbook.pgbackup import records

    for scrap in part.glob(".log*"):
        scrap.unlink()
    size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    files = catalog.sizes_and_sums(part) if files is None else files
    records.write(part / catalog.MANIFEST, records.Manifest, {**manifest, "files": files, "size_bytes": size})
    for folder in {path.parent for path in part.rglob("*")}:
        _sync(folder)
    part.rename(final)
    _sync(final.parent)


def _snapshot(source: Connection) -> str:
    """Begin the transaction in which everything is read, and return its snapshot: pg_dump and the counts share it."""
    source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    row = source.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])


def _count(source: Connection, running: RunningProgram, archive: Path, say: Say) -> Contents:
    def progress(message: str) -> None:
        running.check()
        say(f"{message}, dumped {_mebibytes(archive)} MiB")

    return contents(source, progress)


def _extension_rights(source: Connection) -> dict[str, list[str]]:
    rights: dict[str, list[str]] = {}
    for row in fetch_rows(source, "extension_rights"):
        rights.setdefault(row["extension"], []).append(row["entry"])
    return rights


def _mebibytes(archive: Path) -> int:
    try:
        files = list(archive.iterdir()) if archive.is_dir() else [archive]
        return sum(file.stat().st_size for file in files) // 2**20
    except OSError:
        return 0


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
