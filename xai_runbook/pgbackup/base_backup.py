"""Base backups of a running cluster: by pg_basebackup, or by the low-level API in one session."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xai_runbook.errors import AccessDenied, BadAnswer, NoData, Refused
from xai_runbook.pgbackup import catalog, private_cluster
from xai_runbook.pgbackup.dump import finish, part_folder, session, source_facts
from xai_runbook.pgbackup.fingerprint import fetch_rows
from xai_runbook.pgbackup.pg_tools import find_programs, run
from xai_runbook.pgbackup.recovery import DATA
from xai_runbook.pgbackup.wal import Segment

Say = Callable[[str], None]
LABEL = "xai-runbook"
_NOT_COPIED = {
    "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans", "pg_wal",
}  # fmt: skip
"""Folders that are left empty. Source: PostgreSQL docs, Making a Base Backup Using the Low Level API."""
_LEFT_OUT = re.compile(
    r"postmaster\.(pid|opts)|pgsql_tmp.*|pg_internal\.init.*|backup_label|tablespace_map|\.s\.PGSQL.*"
)


def base_backup(folder: Path, name: str, *, programs: str | None, say: Say) -> None:
    """Make the base backup `name` with pg_basebackup, which requests an immediate checkpoint.

    Errors: BadAnswer (with the messages of pg_basebackup), Refused, Unreachable, TimedOut, OSError.
    """
    from xai_runbook.pgbackup import records

    if (folder / name).exists():
        raise Refused(f"backup {name} already exists", on=str(folder), hint="make a new plan")
    with part_folder(folder, name) as part:
        with session() as source:
            facts = source_facts(source)
        tools = find_programs(programs, int(facts["server_version"].split(".")[0]))
        options: list[str | Path] = [
            "--pgdata", part / DATA, "--format", "plain", "--checkpoint", "fast", "--wal-method", "stream",
            "--label", LABEL, "--manifest-checksums", "SHA256", "--no-password",
        ]  # fmt: skip
        run(
            [tools / "pg_basebackup", *options], log=part / ".log",
            progress=lambda: say(f"copying, {_mebibytes(part / DATA)} MiB so far"),
        )  # fmt: skip
        manifest = part / DATA / "backup_manifest"
        wal = records.read(manifest, records.ServerManifest)["WAL-Ranges"][-1]
        files = {f"{DATA}/backup_manifest": _size_and_sum(manifest)}
        facts |= _wal_facts(tools, part, wal["Timeline"], wal["Start-LSN"], wal["End-LSN"])
        finish(part, folder / name, {**facts, "how": "pg_basebackup"}, files)


def low_level_backup(folder: Path, name: str, *, programs: str | None, archive: Path | None, say: Say) -> None:
    """Make the base backup `name` with the low-level API: start, copy, stop in one session, then add the label file.

    Errors: AccessDenied if the data directory cannot be read from here, NoData if a WAL segment was recycled.
    """
    if (folder / name).exists():
        raise Refused(f"backup {name} already exists", on=str(folder), hint="make a new plan")
    with part_folder(folder, name) as part, session() as source:
        facts = source_facts(source)
        tools = find_programs(programs, int(facts["server_version"].split(".")[0]))
        (cluster,) = fetch_rows(source, "cluster")
        live_data = Path(cluster["data_directory"])
        if not (live_data / "PG_VERSION").is_file():
            raise AccessDenied(
                "the data directory cannot be read from here", on=str(live_data), hint="use backups.base_backup"
            )
        (start,) = fetch_rows(source, "backup_start", {"label": LABEL})
        say(f"the backup starts at {start['lsn']}")
        copy_tree(live_data, part / DATA, lambda: say(f"copying, {_mebibytes(part / DATA)} MiB so far"))
        (stop,) = fetch_rows(source, "backup_stop")
        (part / DATA / "backup_label").write_text(stop["labelfile"], encoding="utf-8")
        if stop["spcmapfile"]:
            (part / DATA / "tablespace_map").write_text(stop["spcmapfile"], encoding="utf-8")
        facts |= _wal_facts(tools, part, int(_timeline(stop["labelfile"])), start["lsn"], stop["lsn"])
        for segment in Segment.names_between(facts["timeline"], start["lsn"], stop["lsn"], facts["segment_bytes"]):
            _copy_segment(segment, live_data, archive, part / DATA / "pg_wal")
        finish(part, folder / name, {**facts, "how": "low-level"})


def copy_tree(source: Path, target: Path, progress: Callable[[], object]) -> None:
    """Copy the data directory of a running cluster. Recovery repairs files that vanish meanwhile; links are refused."""
    target.mkdir(mode=0o700)
    for path, folders, names in os.walk(source):
        relative = Path(path).relative_to(source)
        copy = target / relative
        for link in [name for name in (*folders, *names) if (Path(path) / name).is_symlink()]:
            what = f"{link} is a symbolic link (a tablespace, or pg_wal on another disk)"
            raise Refused(what, on=str(source), hint="use backups.base_backup")
        for folder in folders:
            (copy / folder).mkdir(mode=0o700, exist_ok=True)
        left_empty = _NOT_COPIED if str(relative) == "." else set()
        folders[:] = [folder for folder in folders if folder not in left_empty and not _LEFT_OUT.fullmatch(folder)]
        for name in names:
            if not _LEFT_OUT.fullmatch(name):
                try:
                    shutil.copy2(Path(path) / name, copy / name)
                except FileNotFoundError:
                    continue
        progress()
    (target / "pg_wal" / "archive_status").mkdir(mode=0o700, parents=True, exist_ok=True)


def _copy_segment(segment: str, live_data: Path, archive: Path | None, target: Path) -> None:
    for source in (live_data / "pg_wal", *([archive] if archive else [])):
        if (source / segment).is_file():
            shutil.copy2(source / segment, target / segment)
            return
    raise NoData(f"WAL segment {segment} was recycled during the copy", on=str(live_data), hint="archive WAL")


def _wal_facts(tools: Path, part: Path, timeline: int, start: str, stop: str) -> dict[str, Any]:
    control = private_cluster.control_data(tools, part / DATA, part / ".log")
    return {
        "kind": "cluster",
        "taken_at": datetime.now(UTC).isoformat(timespec="microseconds"),  # the backup is consistent from its end on
        "timeline": timeline,
        "start_lsn": start,
        "stop_lsn": stop,
        "segment_bytes": int(control["Bytes per WAL segment"]),
    }


def _timeline(label: str) -> str:
    match = re.search(r"^START TIMELINE: (\d+)$", label, re.MULTILINE)
    if match is None:
        raise BadAnswer("the server's backup label names no timeline")
    return match[1]


def _size_and_sum(path: Path) -> dict[str, Any]:
    return {"size_bytes": path.stat().st_size, "sha256": catalog.sha256(path)}


def _mebibytes(folder: Path) -> int:
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(path) / name).stat().st_size
            except OSError:
                continue
    return size // 2**20
