"""Restoring a dump into an empty database: what cannot be made there is left out by name, the rest must succeed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from xai_runbook.backup.programs import run

ARCHIVE, ROLES = "database.dump", "roles.sql"
_ENTRY = re.compile(r"\d+; \d+ \d+ (.+)")


def read_back(programs: Path, archive: Path, log: Path, progress: Callable[[], object]) -> None:
    """Reads the whole archive, every compressed byte of it. Errors: BadAnswer where it is cut or damaged.

    `pg_restore --list` reads the table of contents alone, and takes archives for good that are not.
    """
    run([programs / "pg_restore", "--file", "/dev/null", "--", archive], log=log, progress=progress)


def restore(
    programs: Path,
    archive: Path,
    *,
    log: Path,
    variables: Mapping[str, str],
    jobs: int,
    without: frozenset[str] = frozenset(),
    whole: bool = True,
    progress: Callable[[], object] = lambda: None,
) -> list[str]:
    """Restores into the empty database that the variables name, the first error ends it; what was left out, by name.

    `without` are extensions that the role may not create; then rights on the server's own functions are left out too.
    Where it is not `whole`, owners and rights are left out: their roles are not there. Errors: BadAnswer, TimedOut.
    """
    listed = run([programs / "pg_restore", "--list", "--", archive], log=log)
    kept, left_out = [], []
    for line in listed.splitlines():
        match = _ENTRY.match(line)
        if match is None:
            continue
        dropped = _dropped(match[1], without, whole)
        if dropped:
            left_out.append(dropped)
        else:
            kept.append(line)
    contents = log.with_name(f"{log.name}.list")
    contents.write_text("\n".join(kept) + "\n", encoding="utf-8")
    options = ["--exit-on-error", "--no-tablespaces", "--no-password", "--jobs", str(jobs), "--use-list", str(contents)]
    options += [] if whole else ["--no-owner", "--no-privileges", "--no-subscriptions", "--no-publications"]
    run(
        [programs / "pg_restore", *options, "--dbname", variables["PGDATABASE"], "--", archive],
        log=log, more=variables, progress=progress,
    )  # fmt: skip
    return sorted(set(left_out))


def _dropped(entry: str, without: frozenset[str], whole: bool) -> str:
    """Why this entry of the table of contents is left out; empty where it is not."""
    for extension in without:
        if entry.startswith((f"EXTENSION - {extension} ", f"COMMENT - EXTENSION {extension} ")):
            return f"extension {extension}"
    if (without or not whole) and re.match(r"ACL pg_catalog ", entry):
        return "rights on the server's own functions"
    return ""
