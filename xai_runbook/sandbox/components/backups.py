"""The sandbox's backups: one that is there from the beginning, the archive of WAL, and what can go wrong with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import SandboxError
from xai_runbook.pgbackup import catalog
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor.component import Layout, environment
from xai_runbook.system import child, processes
from xai_runbook.system.files import write_whole

if TYPE_CHECKING:
    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

ARCHIVE_COMMAND = "test ! -f ../archive/%f && cp %p ../archive/%f.part && mv ../archive/%f.part ../archive/%f"
"""From the data folder, so that a copied cluster archives into its own sandbox."""
FIRST = "xai_blockchain-000001"
STALE_DAYS = 3
MAKE_SECONDS = 120.0


def folder(layout: Layout) -> Path:
    """Where this sandbox's backups are."""
    return layout.folder / "postgres" / "backups"


def archive(layout: Layout) -> Path:
    """Where this sandbox's server archives its WAL."""
    return layout.folder / "postgres" / "archive"


def overlay(layout: Layout) -> dict[str, Any]:
    """What the settings of the sandbox's `backups` table are."""
    told: dict[str, Any] = {"folder": str(folder(layout)), "archive": str(archive(layout))}
    server = programs.find("postgres")
    if server is not None:
        told["programs"] = str(server.parent)
    return told


def recipe() -> bytes:
    """What the backup of a template depends on: a template that was made with other programs is another."""
    return files("xai_runbook.pgbackup").joinpath("dump.py").read_bytes()


def make(tools: Path, data: Path, into: Path) -> None:
    """The backup that a template cluster comes with, verified as every other. Raises SandboxError."""
    from xai_runbook.sandbox.components.postgres_template import SUPERUSER

    into.mkdir(mode=0o700)
    if not (tools / "pg_dump").exists():
        return
    descriptor = os.open(data, os.O_PATH)  # a path that is short enough for a socket
    argv = child.python("xai_runbook.pgbackup", "dump", "--folder", str(into), "--name", FIRST)
    variables = {
        "PGHOST": f"/proc/{os.getpid()}/fd/{descriptor}", "PGPORT": "5432", "PGUSER": SUPERUSER,
        "PGDATABASE": "xai_blockchain",
    }  # fmt: skip
    try:
        done = processes.run(
            [*argv, "--programs", str(tools)],
            env=environment(data.parent) | variables | {"TMPDIR": str(data.parent)},
            cwd=data.parent,
            deadline_seconds=MAKE_SECONDS,
            death_signal=signal.SIGTERM,
        )
    except OSError as error:
        raise SandboxError(f"the sandbox's backup could not be made: {type(error).__name__}") from None
    finally:
        os.close(descriptor)
    if done.returncode:
        raise SandboxError("the sandbox's backup could not be made", on=(done.stdout + done.stderr).strip()[-600:])


def damage(supervisor: Supervisor) -> None:
    """Cuts the newest backup's dump in half."""
    newest = _newest(supervisor)
    _keep(newest)
    dump = newest / "database.dump"
    os.truncate(dump, dump.stat().st_size // 2)


def age(supervisor: Supervisor) -> None:
    """Makes every backup three days older than it is, as if nightly runs had failed since."""
    for backup in catalog.read(folder(supervisor.layout)):
        _keep(backup.path)
        taken = datetime.fromisoformat(backup.manifest["taken_at"]) - timedelta(days=STALE_DAYS)
        told = backup.manifest | {"taken_at": taken.astimezone(UTC).isoformat(timespec="microseconds")}
        write_whole(backup.path / catalog.MANIFEST, json.dumps(told).encode())
        verified = {key: value for key, value in backup.verification.items() if key != "manifest_sha256"}
        catalog.record(backup.path, verified)


def give_back(supervisor: Supervisor) -> None:
    """Puts every backup back as it was before it was damaged or aged."""
    for kept in folder(supervisor.layout).glob(".kept-*"):
        place = kept.with_name(kept.name.removeprefix(".kept-"))
        shutil.rmtree(place, ignore_errors=True)
        kept.rename(place)


def fail_archiving(supervisor: Supervisor) -> None:
    """Moves the archive away, and closes a segment of WAL that then waits for it."""
    place = archive(supervisor.layout)
    place.rename(place.with_name("archive.away"))
    _switch(supervisor)


def mend_archiving(supervisor: Supervisor) -> None:
    """Brings the archive back; a new segment wakes the archiver, which otherwise looks once a minute."""
    place = archive(supervisor.layout)
    away = place.with_name("archive.away")
    if away.exists():
        shutil.rmtree(place, ignore_errors=True)
        away.rename(place)
    _switch(supervisor)


def _switch(supervisor: Supervisor) -> None:
    from xai_runbook.sandbox.components.postgres_template import connect

    layout = supervisor.layout
    with connect(layout.folder / "postgres" / "data", layout.ports["postgres"], layout.database) as session:
        session.execute("SELECT pg_create_restore_point('xai-runbook sandbox')")  # else there is nothing to close
        session.execute("SELECT pg_switch_wal()")


def _newest(supervisor: Supervisor) -> Path:
    every = [each for each in catalog.read(folder(supervisor.layout)) if each.manifest.get("kind") == "dump"]
    if not every:
        raise SandboxError("there is no backup to damage", hint="xai-runbook plan backups.dump")
    return every[-1].path


def _keep(backup: Path) -> None:
    kept = backup.with_name(f".kept-{backup.name}")
    if not kept.exists():
        shutil.copytree(backup, kept, copy_function=shutil.copy2)
