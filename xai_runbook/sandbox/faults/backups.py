"""Faults of the sandbox's backups and its archive of WAL. The rows that name these functions are in `table.FAULTS`."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.errors import SandboxError
from xai_runbook.pgbackup import catalog
from xai_runbook.sandbox.components import backups, postgres_template
from xai_runbook.system.files import write_whole

if TYPE_CHECKING:
    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

STALE_DAYS = 3


def damage(supervisor: Supervisor) -> None:
    """Cuts the newest backup's dump in half."""
    newest = _newest(supervisor)
    _keep(newest)
    dump = newest / "database.dump"
    os.truncate(dump, dump.stat().st_size // 2)


def age(supervisor: Supervisor) -> None:
    """Makes every backup three days older than it is, as if nightly runs had failed since."""
    for backup in catalog.read(backups.folder(supervisor.layout)):
        _keep(backup.path)
        taken = datetime.fromisoformat(backup.manifest["taken_at"]) - timedelta(days=STALE_DAYS)
        told = backup.manifest | {"taken_at": taken.astimezone(UTC).isoformat(timespec="microseconds")}
        write_whole(backup.path / catalog.MANIFEST, json.dumps(told).encode())
        verified = {key: value for key, value in backup.verification.items() if key != "manifest_sha256"}
        catalog.record(backup.path, verified)


def give_back(supervisor: Supervisor) -> None:
    """Puts every backup back as it was before it was damaged or aged."""
    for kept in backups.folder(supervisor.layout).glob(".kept-*"):
        place = kept.with_name(kept.name.removeprefix(".kept-"))
        shutil.rmtree(place, ignore_errors=True)
        kept.rename(place)


def fail_archiving(supervisor: Supervisor) -> None:
    """Moves the archive away, and closes a segment of WAL that then waits for it."""
    place = backups.archive(supervisor.layout)
    place.rename(place.with_name("archive.away"))
    _switch(supervisor)


def mend_archiving(supervisor: Supervisor) -> None:
    """Brings the archive back; a new segment wakes the archiver, which otherwise looks once a minute."""
    place = backups.archive(supervisor.layout)
    away = place.with_name("archive.away")
    if away.exists():
        shutil.rmtree(place, ignore_errors=True)
        away.rename(place)
    _switch(supervisor)


def _switch(supervisor: Supervisor) -> None:
    layout = supervisor.layout
    with postgres_template.connect(
        layout.folder / "postgres" / "data", layout.ports["postgres"], layout.database
    ) as session:
        session.execute("SELECT pg_create_restore_point('xai-runbook sandbox')")  # else there is nothing to close
        session.execute("SELECT pg_switch_wal()")


def _newest(supervisor: Supervisor) -> Path:
    every = [each for each in catalog.read(backups.folder(supervisor.layout)) if each.manifest.get("kind") == "dump"]
    if not every:
        raise SandboxError(
            "no backup to damage",
            on=str(backups.folder(supervisor.layout)),
            hint="take one: xai-runbook plan backups.dump",
        )
    return every[-1].path


def _keep(backup: Path) -> None:
    kept = backup.with_name(f".kept-{backup.name}")
    if not kept.exists():
        shutil.copytree(backup, kept, copy_function=shutil.copy2)
