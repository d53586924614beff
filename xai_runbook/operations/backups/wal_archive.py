"""The WAL archive: whether WAL reaches it, and which points in time are recoverable. Runbook, Backup and Restore.

The runbook's "WAL archive" line makes a base backup and archives nothing (errata E33).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import CannotAsk, NotConfigured
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.pgbackup.wal import Segment, format_lsn, parse_lsn

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.backups import Backups
    from xai_runbook.clients.postgres.reader import Database


def archiving(database: Database, backups: Backups) -> DataFrame:
    """Return one row: whether finished WAL reaches the archive.

    Columns: target, mode (archive_mode: off, on, always), waiting_count and waiting_seconds (finished segments that are
    not archived yet, and how long the oldest has waited; 0 if there are none), failing (the last attempt failed),
    archived_count, last_archived_wal, last_archived_at, failed_count, last_failed_wal, last_failed_at, missing (the
    last archived segment is not in the archive), error (why the archive cannot be read).
    Errors: NotConfigured if archive_mode is off and the settings name no archive.
    Source: PostgreSQL docs, pg_stat_archiver, Continuous Archiving; errata E33, E74.
    """
    row: dict[str, Any] = dict(database.rows("archiver")[0])
    if row["mode"] == "off" and backups.archive_folder is None:
        raise NotConfigured(
            "WAL is not archived, and the settings name no archive", on="backups.archive",
            hint="set archive_mode = on and archive_command in postgresql.conf, and archive in [backups]",
        )  # fmt: skip
    row |= {"target": "archiver", "missing": False, "error": ""}
    if backups.archive_folder is not None:
        try:
            names = {name[:24] for name, _, _ in backups.archived_files() if Segment.from_name(name, 2**24) is not None}
            row["missing"] = row["last_archived_wal"] is not None and row["last_archived_wal"][:24] not in names
        except CannotAsk as error:
            row["error"] = error.what
    from pandas import DataFrame

    return DataFrame([row])


def check_archiving(archiving: DataFrame, limit: Limit) -> Finding:
    """Alert if finished WAL waits longer than the limit, if archiving is off, or if archived WAL is missing.

    `unknown` if the archive cannot be read.
    """
    row = archiving.iloc[0]
    problem = ""
    if row["mode"] == "off":
        problem = "archive_mode is off, but the settings name an archive"
    elif row["missing"]:
        problem = f"the server reports {row['last_archived_wal']} as archived, but it is not in the archive"
    if problem:
        return Finding(
            name=limit.name, status=Status.ALERT, severity=limit.severity, summary=problem, hint=limit.hint,
            targets=("archiver",),
        )  # fmt: skip
    failing = f", {row['last_failed_wal']} failed last" if row["failing"] else ""
    noun = f"that finished WAL has been waiting (segments: {row['waiting_count']}{failing})"
    found = judge(limit, archiving.drop(columns="error"), value="waiting_seconds", target="target", noun=noun)
    if found.status is Status.OK and row["error"]:
        return Finding.unknown(limit.name, row["error"], limit)
    return found


def recoverable(backups: Backups) -> DataFrame:
    """Return the recoverable range of each verified base backup, newest first.

    Backups that are known to be of another server are left out. Columns: base, timeline, earliest_at and earliest_lsn
    (the end of the backup), latest_at and latest_lsn (the end of the last segment without a gap before it; the time is
    the mtime of its file), gap (the first missing segment that later ones follow; empty if none), segments (number of
    archived segments that follow), doubt (why it is not known to be of this server; empty if it is).
    Errors: CannotAsk, NotConfigured (no archive). Source: catalogue, restore_point_in_time; errata E74.
    """
    from pandas import DataFrame

    archived = backups.archived_files()
    rows = []
    for backup, mismatch in reversed(backups.stored_with_mismatch()):
        manifest = backup.manifest
        if manifest.get("kind") != "cluster" or backup.state != "verified" or (mismatch and mismatch.certain):
            continue
        size, timeline = manifest["segment_bytes"], manifest["timeline"]
        times = {
            segment.number: at
            for name, _, at in archived
            if len(name) == 24  # restore_command uses cp, which cannot read compressed segments
            and (segment := Segment.from_name(name, size)) is not None
            and segment.timeline == timeline
        }
        number, at = Segment.containing(timeline, parse_lsn(manifest["stop_lsn"]) - 1, size).number, None
        latest, count = parse_lsn(manifest["stop_lsn"]), 0
        while number in times:
            latest, at, count, number = (number + 1) * size, times[number], count + 1, number + 1
        later = [other for other in times if other > number]
        rows.append(
            {
                "base": backup.name,
                "timeline": timeline,
                "earliest_at": datetime.fromisoformat(manifest["taken_at"]),
                "earliest_lsn": manifest["stop_lsn"],
                "latest_at": datetime.fromtimestamp(at, UTC) if at else datetime.fromisoformat(manifest["taken_at"]),
                "latest_lsn": format_lsn(latest),
                "gap": Segment(timeline, number, size).name if later else "",
                "segments": count,
                "doubt": str(mismatch or ""),
            }
        )
    columns = ["base", "timeline", "earliest_at", "earliest_lsn", "latest_at", "latest_lsn", "gap", "segments", "doubt"]
    return DataFrame(rows, columns=columns)
