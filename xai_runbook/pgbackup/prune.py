"""Removes backups by name: each only while it is what was planned for, never the newest verified one of its kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from xai_runbook.errors import Refused
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.origin import UNKNOWN, origin


def prune(folder: Path, wanted: dict[str, str], say: Callable[[str], None], *, server: str) -> str:
    """Remove these backups of that server, given with the SHA-256 of their manifests; return a line that names them.

    Errors: Refused.
    """
    found = {backup.name: backup for backup in catalog.read(folder)}
    for name, sha256 in wanted.items():
        if name not in found or catalog.sha256(found[name].path / catalog.MANIFEST) != sha256:
            raise Refused(f"{name} is not the backup that was planned for", on=str(folder), hint="make the plan anew")
        there = origin(found[name].manifest)
        if there == UNKNOWN or there != server:
            raise Refused(f"{name} is of server {there}, and not of {server}", on=str(folder), hint="prune as that one")
    newest = {  # of each kind and database of this server: the oldest come first
        (backup.manifest["kind"], backup.manifest["database"]): backup.name
        for backup in found.values()
        if backup.state == "verified" and origin(backup.manifest) == server
    }
    for what, name in newest.items():
        if name in wanted:
            raise Refused(f"{name} is the newest verified {what[0]} of {what[1]}", on=str(folder))
    for name in wanted:
        say(f"removing {name}")
        # first the name: whoever looks in the meantime sees no half of a backup
        gone = folder / f"{catalog.PRUNED}{name}"
        found[name].path.rename(gone)
        shutil.rmtree(gone)
    return f"removed {', '.join(wanted)}"
