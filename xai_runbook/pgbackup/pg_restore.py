"""Restores a dump into an empty database: what cannot be created there is left out and named, the rest must succeed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xai_runbook.errors import Refused
from xai_runbook.pgbackup.fingerprint import Connection, fetch_rows
from xai_runbook.pgbackup.origin import UNKNOWN, address, origin
from xai_runbook.pgbackup.pg_tools import run

ARCHIVE, ROLES = "database.dump", "roles.sql"
_ENTRY = re.compile(r"\d+; \d+ \d+ (.+)")


def read_back(programs: Path, archive: Path, log: Path, progress: Callable[[], object]) -> None:
    """Read every byte of the archive. Errors: BadAnswer if it is truncated or damaged.

    `pg_restore --list` is not enough: it reads only the table of contents.
    """
    run([programs / "pg_restore", "--file", "/dev/null", "--", archive], log=log, progress=progress)


def restore(
    programs: Path,
    archive: Path,
    *,
    log: Path,
    variables: Mapping[str, str],
    jobs: int,
    without: Mapping[str, Sequence[str]] = MappingProxyType({}),
    as_superuser: bool = True,
    progress: Callable[[], object] = lambda: None,
) -> list[str]:
    """Restore into the empty database that the variables name, up to the first error; return what was left out.

    `without` are the extensions that the role may not create, each with the beginnings of the archive entries that are
    privileges on its objects; privileges on pg_catalog are left out then too. Without `as_superuser`, owners and
    privileges are left out, because their roles do not exist there. Errors: BadAnswer, TimedOut.
    """
    listing = run([programs / "pg_restore", "--list", "--", archive], log=log)
    entries, left_out = [], []
    for line in listing.splitlines():
        match = _ENTRY.match(line)
        if match is None:
            continue
        reason = _why_left_out(match[1], without, as_superuser)
        if reason:
            left_out.append(reason)
        else:
            entries.append(line)
    contents = log.with_name(f"{log.name}.list")
    contents.write_text("\n".join(entries) + "\n", encoding="utf-8")
    options = ["--exit-on-error", "--no-tablespaces", "--no-password", "--jobs", str(jobs), "--use-list", str(contents)]
    options += [] if as_superuser else ["--no-owner", "--no-privileges", "--no-subscriptions", "--no-publications"]
    progress()
    run(
        [programs / "pg_restore", *options, "--dbname", variables["PGDATABASE"], "--", archive],
        log=log, variables=variables, progress=progress,
    )  # fmt: skip
    return sorted(set(left_out))


def require_same_server(session: Connection, manifest: Mapping[str, Any], from_server: str) -> None:
    """Raise Refused if the backup is of another server than this session, unless `from_server` names that server."""
    (server,) = fetch_rows(session, "identity")
    own, backed_up = origin(server | {"server": address()}), origin(manifest)
    if (backed_up == UNKNOWN or backed_up != own) and from_server != backed_up:
        raise Refused(
            f"the backup is of server {backed_up}, and this is server {own}", on=str(manifest["database"]),
            hint="backups.restore --from-server restores it into a new database",
        )  # fmt: skip


def _why_left_out(entry: str, without: Mapping[str, Sequence[str]], as_superuser: bool) -> str:
    """Return why this entry of the table of contents is left out; empty if it is restored."""
    for extension, rights in without.items():
        if entry.startswith((f"EXTENSION - {extension} ", f"COMMENT - EXTENSION {extension} ", *rights)):
            return f"extension {extension}"
    if (without or not as_superuser) and re.match(r"ACL pg_catalog ", entry):
        return "privileges on functions in pg_catalog"
    return ""


def uncreatable_extensions(session: Connection, manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the extensions that the role of this session may not create, each with the entries that need it."""
    rights = manifest.get("extension_rights", {})
    return {row["name"]: list(rights.get(row["name"], [])) for row in fetch_rows(session, "superuser_extensions")}
