"""Recovers to a point in time into a private cluster, and tells what was there then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from xai_runbook.errors import InputError, Refused
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.dump import making
from xai_runbook.pgbackup.pg_tools import folder_of
from xai_runbook.pgbackup.recovery import DATA, recovered


def drill(
    folder: Path,
    name: str,
    base: str,
    *,
    programs: str | None,
    archive: Path | None,
    until: dict[str, str],
    expected: Sequence[str],
    keep: bool,
    say: Callable[[str], None],
) -> str:
    """What the recovery came to, in words; `NAME/recovery.json` has every table's rows and checksum as they were.

    `expected` is a ledger: "DATABASE.SCHEMA.TABLE=ROWS". Errors: BadAnswer where it cannot get there, Refused.
    """
    from xai_runbook.pgbackup import records

    if (folder / name).exists():
        raise Refused(f"there is a recovery {name} already", on=str(folder), hint="make the plan anew")
    ledger = dict(_entry(line) for line in expected)
    backup = catalog.named(folder, base)
    tools = folder_of(programs, int(backup.manifest["server_version"].split(".")[0]))
    with making(folder, name) as part:
        started = time.monotonic()
        kept = part / DATA if keep else None
        with recovered(folder, backup, tools, archive=archive, until=until, say=say, keep=kept) as place:
            seconds = time.monotonic() - started
            reached = place.reached()
            found = {
                f"{database}.{table}": told
                for database, contents in place.contents(say).items()
                for table, told in contents["tables"].items()
            }
        wrong = [
            f"{table} has {found[table]['rows'] if table in found else 'no'} rows instead of {rows}"
            for table, rows in ledger.items()
            if table not in found or found[table]["rows"] != rows
        ]
        record = {
            "base": base, "target": until, "at": datetime.now(UTC).isoformat(), "reached": reached,
            "seconds": round(seconds, 3), "tables": found, "expected": ledger, "differences": wrong,
        }  # fmt: skip
        records.write(part / catalog.RECOVERY, records.Recovery, record)
        part.rename(folder / name)
    where = f"; the cluster is in {folder / name / DATA}, shut down" if keep else ""
    rows = sum(int(table["rows"]) for table in found.values())
    compared = (
        "; ".join(wrong) if wrong else f"{len(ledger)} tables as the ledger says" if ledger else "no ledger given"
    )
    return f"{name}: {rows} rows at {reached['lsn']}, in {seconds:.1f} s; {compared}{where}"


def _entry(line: str) -> tuple[str, str]:
    table, _, rows = line.rpartition("=")
    if not table or not rows.isdecimal():
        raise InputError(f"{line!r:.80} is no entry of a ledger", hint="DATABASE.SCHEMA.TABLE=ROWS")
    return table, rows
