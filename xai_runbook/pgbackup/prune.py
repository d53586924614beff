"""Removes backups by name and checksum, never the newest verified one of its kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from xai_runbook.errors import Refused
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.origin import UNKNOWN, origin


def prune(folder: Path, sums: dict[str, str], say: Callable[[str], None], *, server: str) -> str:
    """Remove backups of that server, by name and SHA-256 of their manifests; return the result as a line.

    Errors: Refused, and nothing was removed; OSError.
    """
    backups = {backup.name: backup for backup in catalog.read(folder)}
    for name, sha256 in sums.items():
        if name not in backups or catalog.sha256(backups[name].path / catalog.MANIFEST) != sha256:
            raise Refused(f"{name} is not the backup of the plan", on=str(folder), hint="make a new plan")
        server_of_backup = origin(backups[name].manifest)
        if server_of_backup == UNKNOWN or server_of_backup != server:
            raise Refused(
                f"{name} is of server {server_of_backup}, and not of {server}",
                on=str(folder),
                hint="prune it in the environment of that server",
            )
    newest = {  # of each kind and database: backups are sorted oldest first
        (backup.manifest["kind"], backup.manifest["database"]): backup.name
        for backup in backups.values()
        if backup.state == "verified" and origin(backup.manifest) == server
    }
    for (kind, database), name in newest.items():
        if name in sums:
            raise Refused(f"{name} is the newest verified {kind} of {database}", on=str(folder))
    for name in sums:
        say(f"removing {name}")
        # renamed first, so that no reader sees half a backup
        renamed = folder / f"{catalog.PRUNED}{name}"
        backups[name].path.rename(renamed)
        shutil.rmtree(renamed)
    return f"removed {', '.join(sums)}"
