"""Rehearses a recovery to a point in time in a private cluster, and records the contents of every table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from xai_runbook.errors import InputError, Refused
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.dump import part_folder
from xai_runbook.pgbackup.pg_tools import find_programs
from xai_runbook.pgbackup.recovery import DATA, recovered_cluster


def drill(
    folder: Path,
    name: str,
    base: str,
    *,
    programs: str | None,
    archive: Path | None,
    target_settings: dict[str, str],
    expected: Sequence[str],
    keep: bool,
    say: Callable[[str], None],
) -> str:
    """Recover, write `NAME/recovery.json` with rows and checksum of every table, and return the result as a line.

    `expected` is a ledger of "DATABASE.SCHEMA.TABLE=ROWS". Errors: BadAnswer if the target cannot be reached, Refused.
    """
    from xai_runbook.pgbackup import records

    if (folder / name).exists():
        raise Refused(f"recovery {name} already exists", on=str(folder), hint="make a new plan")
    ledger = dict(_ledger_entry(line) for line in expected)
    backup = catalog.named(folder, base)
    tools = find_programs(programs, int(backup.manifest["server_version"].split(".")[0]))
    with part_folder(folder, name) as part:
        started = time.monotonic()
        kept_data = part / DATA if keep else None
        with recovered_cluster(
            folder, backup, tools, archive=archive, target_settings=target_settings, say=say, keep=kept_data
        ) as cluster:
            seconds = time.monotonic() - started
            reached = cluster.reached()
            tables = {
                f"{database}.{table}": content
                for database, contents in cluster.contents(say).items()
                for table, content in contents["tables"].items()
            }
        differences = [
            f"{table} has {tables[table]['rows'] if table in tables else 'no'} rows instead of {rows}"
            for table, rows in ledger.items()
            if table not in tables or tables[table]["rows"] != rows
        ]
        record = {
            "base": base, "target": target_settings, "at": datetime.now(UTC).isoformat(), "reached": reached,
            "seconds": round(seconds, 3), "tables": tables, "expected": ledger, "differences": differences,
        }  # fmt: skip
        records.write(part / catalog.RECOVERY, records.Recovery, record)
        part.rename(folder / name)
    kept_note = f"; the cluster is in {folder / name / DATA}, shut down" if keep else ""
    rows = sum(int(table["rows"]) for table in tables.values())
    agreement = f"{len(ledger)} tables match the ledger" if ledger else "no ledger given"
    return (
        f"{name}: {rows} rows at {reached['lsn']}, in {seconds:.1f} s; {'; '.join(differences) or agreement}{kept_note}"
    )


def _ledger_entry(line: str) -> tuple[str, str]:
    table, _, rows = line.rpartition("=")
    if not table or not rows.isdecimal():
        raise InputError(f"{line!r:.80} is not a ledger entry", hint="DATABASE.SCHEMA.TABLE=ROWS")
    return table, rows
