"""Recovery to a point in time, rehearsed in a private cluster: the server itself is not touched.

What the runbook calls point-in-time recovery is half of a low-level backup, with functions that PostgreSQL 15 removed
(errata E34, E74).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import InputError, NoData
from xai_runbook.model.plans import Command, Condition, Plan, Risk, change
from xai_runbook.model.scalars import facts
from xai_runbook.operations.backups.wal_archive import recoverable

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.backups import Backups


def recoveries(backups: Backups) -> DataFrame:
    """Return the rehearsed recoveries, newest first.

    Columns: name, base, recovery_target, reached_lsn, reached_at (of the last replayed commit), stop_message (of the
    server), seconds, rows, tables, cluster_kept (its data directory exists), differences (from the ledger).
    """
    from pandas import DataFrame, Timestamp

    rows = [
        {
            "name": name,
            "base": record["base"],
            "recovery_target": ", ".join(record["target"].values()),
            "reached_lsn": record["reached"]["lsn"],
            "reached_at": Timestamp(at) if (at := record["reached"]["last_commit_at"]) else None,
            "stop_message": record["reached"]["stopped"],
            "seconds": record["seconds"],
            "rows": sum(int(table["rows"]) for table in record["tables"].values()),
            "tables": len(record["tables"]),
            "cluster_kept": kept,
            "differences": "; ".join(record["differences"]),
        }
        for name, record, kept in reversed(backups.recoveries())
    ]
    columns = [
        "name", "base", "recovery_target", "reached_lsn", "reached_at", "stop_message", "seconds", "rows", "tables",
        "cluster_kept", "differences",
    ]  # fmt: skip
    return DataFrame(rows, columns=columns)


def recovered_tables(backups: Backups, *, name: str = "") -> DataFrame:
    """Return what each table contained in a rehearsed recovery. Columns: table, rows, checksum.

    Without a name, the newest recovery; no rows if no recovery exists. Errors: NoData for an unknown name.
    """
    from pandas import DataFrame

    found = [record for known, record, _ in backups.recoveries() if not name or known == name]
    if name and not found:
        raise NoData(f"there is no recovery {name}", on=str(backups.folder), hint="backups.recoveries lists them")
    rows = [
        {"table": table, "rows": int(content["rows"]), "checksum": content["checksum"]}
        for record in found[-1:]
        for table, content in record["tables"].items()
    ]
    return DataFrame(rows, columns=["table", "rows", "checksum"])


def recovery_state(backups: Backups, *, name: str) -> DataFrame:
    """Return one row: state (recovered; differs: from the ledger; missing: no such recovery), reached_lsn."""
    from pandas import DataFrame

    for known, record, _ in backups.recoveries():
        if known == name:
            state = "differs" if record["differences"] else "recovered"
            return DataFrame([{"state": state, "reached_lsn": record["reached"]["lsn"]}])
    return DataFrame([{"state": "missing", "reached_lsn": ""}])


@change
def recover_to(
    backups: Backups,
    *,
    time: str = "",
    lsn: str = "",
    base: str = "",
    expect: list[str] | None = None,
    keep: bool = False,
) -> Plan:
    """Return a Plan that recovers to a time (ISO 8601 with a zone) or an LSN in a private cluster.

    Such as the minute before a bad DELETE. The server is not touched. Rows and checksums of every table are recorded
    and compared with `expect`, a ledger of "DATABASE.SCHEMA.TABLE=ROWS". With `keep` the cluster is kept, shut down, to
    copy lost rows from it. Without `base`, the newest suitable base backup, preferably one known to be of this server.
    Errors: InputError if the point is not recoverable. Source: catalogue, restore_point_in_time; errata E74.
    """
    from pandas import Timestamp

    from xai_runbook.pgbackup import wal

    if not time and not lsn:
        return Plan(
            verb="recover", scope="nothing", targets=(), observed=(), steps=(), expected=None, undo="nothing to undo",
            risk=Risk.ADDITIVE, note="no recovery target was given",
        )  # fmt: skip
    if time and lsn:
        raise InputError("a recovery target is either a time or an LSN, not both", hint="--time 2026-01-31T12:00:00Z")
    ranges = recoverable(backups)
    if ranges.empty:
        left_out = [
            f"{backup.name}: {backup.why or mismatch}"
            for backup, mismatch in reversed(backups.stored_with_mismatch())
            if backup.manifest.get("kind") == "cluster"
        ]
        reasons = f" ({'; '.join(left_out[:3])})" if left_out else ""
        raise NoData(
            f"there is no verified base backup to start from{reasons}",
            on=str(backups.folder), hint="xai-runbook plan backups.base_backup",
        )  # fmt: skip
    if base:
        ranges = ranges[ranges["base"] == base]
    if time:
        try:
            at = Timestamp(time)
        except ValueError:
            raise InputError(
                "invalid time; expected ISO 8601 with a zone", on=time[:60], hint="--time 2026-01-31T12:00:00Z"
            ) from None
        if at.tzinfo is None:
            raise InputError("the time has no zone", on=time, hint=f"{time}Z, if it is UTC")
        point = at.tz_convert("UTC").isoformat()
        inside = ranges[(ranges["earliest_at"] <= at) & (at <= ranges["latest_at"])]
    else:
        position, point = wal.parse_lsn(lsn), lsn
        inside = ranges[
            [
                wal.parse_lsn(r["earliest_lsn"]) <= position <= wal.parse_lsn(r["latest_lsn"])
                for _, r in ranges.iterrows()
            ]
        ]
    if inside.empty:
        covered = "; ".join(
            f"{r['base']}: {r['earliest_at']:%Y-%m-%d %H:%M:%S} ({r['earliest_lsn']}) to "
            f"{r['latest_at']:%Y-%m-%d %H:%M:%S} UTC ({r['latest_lsn']})"
            for _, r in ranges.head(3).iterrows()
        )
        raise InputError(
            f"{point} is not recoverable: {covered or 'there is no such base backup'}", on=str(backups.folder),
            hint="a later point is recoverable once its WAL segment is archived: SELECT pg_switch_wal()",
        )  # fmt: skip
    known = inside[inside["doubt"] == ""]
    chosen = (inside if known.empty else known).iloc[0]
    base = str(chosen["base"])
    manifest = backups.named(base).manifest
    tools = backups.programs(int(manifest["server_version"].split(".")[0]))
    name = backups.next_name("recovery")
    options = ["--time", point] if time else ["--lsn", point]
    options += ["--expect", *expect] if expect else []
    options += ["--keep"] if keep else []
    return Plan(
        verb="recover",
        scope=name,
        targets=(f"{name}: a private cluster from {base}, to {point}",),
        observed=(facts({"base": base, "earliest_lsn": chosen["earliest_lsn"]}),),
        steps=(
            Command(
                argv=(
                    "python", "-m", "xai_runbook.pgbackup", "recover", "--folder", str(backups.folder), "--name", name,
                    "--base", base, "--programs", str(tools), "--archive", str(backups.archive_folder), *options,
                ),
                environment=backups.step_environment,
                seconds=backups.settings.timeout,
                equivalent=f"cp -a {base}/data ...; touch recovery.signal; restore_command, recovery_target_"
                f"{'time' if time else 'lsn'} = '{point}'; pg_ctl start",
            ),
        ),
        expected=Condition.of(
            recovery_state, name=name, column="state", comparison="==",
            value="recovered", within="5s", description="it was recovered and matches the ledger",
        ),
        undo=f"rm -r {backups.folder / name}",
        risk=Risk.ADDITIVE,
        note="nothing uses the recovered cluster, and the server is not touched"
        + (f"; {base} may be of another server: {chosen['doubt']}" if chosen["doubt"] else ""),
    )  # fmt: skip
