"""Faults of the sandbox's backups and WAL archive. The rows that name these functions are in `table.FAULTS`."""

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
from xai_runbook.system.files import write_atomically

if TYPE_CHECKING:
    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

STALE_DAYS = 3


def truncate_newest(supervisor: Supervisor) -> None:
    """Truncate the newest backup's dump to half its size."""
    newest = _newest(supervisor)
    _save_copy(newest)
    dump = newest / "database.dump"
    os.truncate(dump, dump.stat().st_size // 2)


def backdate(supervisor: Supervisor) -> None:
    """Date every backup back by three days, as if nightly backups had failed since."""
    for backup in catalog.read(backups.folder(supervisor.layout)):
        _save_copy(backup.path)
        taken = datetime.fromisoformat(backup.manifest["taken_at"]) - timedelta(days=STALE_DAYS)
        manifest = backup.manifest | {"taken_at": taken.astimezone(UTC).isoformat(timespec="microseconds")}
        write_atomically(backup.path / catalog.MANIFEST, json.dumps(manifest).encode())
        verified = {key: value for key, value in backup.verification.items() if key != "manifest_sha256"}
        catalog.record(backup.path, verified)


def restore(supervisor: Supervisor) -> None:
    """Restore every backup from the copy that was made before it was changed."""
    for copy in backups.folder(supervisor.layout).glob(".kept-*"):
        folder = copy.with_name(copy.name.removeprefix(".kept-"))
        shutil.rmtree(folder, ignore_errors=True)
        copy.rename(folder)


def fail_archiving(supervisor: Supervisor) -> None:
    """Move the archive away and complete a WAL segment, which then cannot be archived."""
    folder = backups.archive(supervisor.layout)
    folder.rename(folder.with_name("archive.away"))
    _switch_wal(supervisor)


def restore_archiving(supervisor: Supervisor) -> None:
    """Move the archive back. Completing a segment wakes the archiver, which otherwise retries once a minute."""
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
        # an empty segment is not switched
        session.execute("SELECT pg_create_restore_point('xai-runbook sandbox')")
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
