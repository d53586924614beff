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


def truncate_newest(supervisor: Supervisor) -> None:
    """Cuts the newest backup's dump in half."""
    newest = _newest(supervisor)
    _save_copy(newest)
    dump = newest / "database.dump"
    os.truncate(dump, dump.stat().st_size // 2)


def backdate(supervisor: Supervisor) -> None:
    """Makes every backup three days older than it is, as if nightly runs had failed since."""
    for backup in catalog.read(backups.folder(supervisor.layout)):
        _save_copy(backup.path)
        taken = datetime.fromisoformat(backup.manifest["taken_at"]) - timedelta(days=STALE_DAYS)
        manifest = backup.manifest | {"taken_at": taken.astimezone(UTC).isoformat(timespec="microseconds")}
        write_whole(backup.path / catalog.MANIFEST, json.dumps(manifest).encode())
        verified = {key: value for key, value in backup.verification.items() if key != "manifest_sha256"}
        catalog.record(backup.path, verified)


def restore(supervisor: Supervisor) -> None:
    """Puts every backup back as it was before it was damaged or aged."""
    for copy in backups.folder(supervisor.layout).glob(".kept-*"):
        folder = copy.with_name(copy.name.removeprefix(".kept-"))
        shutil.rmtree(folder, ignore_errors=True)
        copy.rename(folder)


def fail_archiving(supervisor: Supervisor) -> None:
    """Moves the archive away, and closes a segment of WAL that then waits for it."""
    folder = backups.archive(supervisor.layout)
    folder.rename(folder.with_name("archive.away"))
    _switch_wal(supervisor)


def restore_archiving(supervisor: Supervisor) -> None:
    """Brings the archive back; a new segment wakes the archiver, which otherwise looks once a minute."""
    folder = backups.archive(supervisor.layout)
    away = folder.with_name("archive.away")
    if away.exists():
        shutil.rmtree(folder, ignore_errors=True)
        away.rename(folder)
    _switch_wal(supervisor)


def _switch_wal(supervisor: Supervisor) -> None:
    layout = supervisor.layout
    with postgres_template.connect(
        layout.folder / "postgres" / "data", layout.ports["postgres"], layout.database
    ) as session:
        session.execute("SELECT pg_create_restore_point('xai-runbook sandbox')")  # else there is nothing to close
        session.execute("SELECT pg_switch_wal()")


def _newest(supervisor: Supervisor) -> Path:
    dumps = [each for each in catalog.read(backups.folder(supervisor.layout)) if each.manifest.get("kind") == "dump"]
    if not dumps:
        raise SandboxError(
            "no backup to damage",
            on=str(backups.folder(supervisor.layout)),
            hint="take one: xai-runbook plan backups.dump",
        )
    return dumps[-1].path


def _save_copy(backup: Path) -> None:
    copy = backup.with_name(f".kept-{backup.name}")
    if not copy.exists():
        shutil.copytree(backup, copy, copy_function=shutil.copy2)
