"""Copies a whole cluster while it runs: by pg_basebackup, or step by step in one session that stays open."""

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
from xai_runbook.pgbackup.dump import finish, making, session, source_facts
from xai_runbook.pgbackup.fingerprint import ask
from xai_runbook.pgbackup.pg_tools import folder_of, run
from xai_runbook.pgbackup.recovery import DATA
from xai_runbook.pgbackup.wal import Segment

Say = Callable[[str], None]
LABEL = "xai-runbook"
_NOT_COPIED = {
    "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans", "pg_wal",
}  # fmt: skip
"""Folders whose content means nothing in a copy. PostgreSQL docs, Making a Base Backup Using the Low Level API."""
_LEFT_OUT = re.compile(
    r"postmaster\.(pid|opts)|pgsql_tmp.*|pg_internal\.init.*|backup_label|tablespace_map|\.s\.PGSQL.*"
)


def base_backup(folder: Path, name: str, *, programs: str | None, say: Say) -> None:
    """Makes the base backup `name` with pg_basebackup, which asks for a checkpoint now instead of waiting for one.

    Errors: BadAnswer (what pg_basebackup said), Refused, Unreachable, TimedOut, OSError.
    """
    from xai_runbook.pgbackup import records

    if (folder / name).exists():
        raise Refused(f"there is a backup {name} already", on=str(folder), hint="make the plan anew")
    with making(folder, name) as part:
        with session() as source:
            facts = source_facts(source)
        tools = folder_of(programs, int(facts["server_version"].split(".")[0]))
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
        answers = {f"{DATA}/backup_manifest": _sum(manifest)}
        facts |= _ranges(tools, part, wal["Timeline"], wal["Start-LSN"], wal["End-LSN"])
        finish(part, folder / name, {**facts, "how": "pg_basebackup"}, answers)


def low_level(folder: Path, name: str, *, programs: str | None, archive: Path | None, say: Say) -> None:
    """Makes the base backup `name` step by step: start, copy, stop, all in one session, and the label into the copy.

    Errors: AccessDenied where the data folder cannot be read from here, NoData where a segment of WAL has gone.
    """
    if (folder / name).exists():
        raise Refused(f"there is a backup {name} already", on=str(folder), hint="make the plan anew")
    with making(folder, name) as part, session() as source:
        facts = source_facts(source)
        tools = folder_of(programs, int(facts["server_version"].split(".")[0]))
        (where,) = ask(source, "cluster")
        live = Path(where["data_directory"])
        if not (live / "PG_VERSION").is_file():
            raise AccessDenied("the server's data folder cannot be read from here", on=str(live), hint="base_backup")
        (start,) = ask(source, "backup_start", {"label": LABEL})
        say(f"the backup began at {start['lsn']}")
        copy_tree(live, part / DATA, lambda: say(f"copying, {_mebibytes(part / DATA)} MiB so far"))
        (stop,) = ask(source, "backup_stop")
        (part / DATA / "backup_label").write_text(stop["labelfile"], encoding="utf-8")
        if stop["spcmapfile"]:
            (part / DATA / "tablespace_map").write_text(stop["spcmapfile"], encoding="utf-8")
        facts |= _ranges(tools, part, int(_timeline(stop["labelfile"])), start["lsn"], stop["lsn"])
        for segment in Segment.between(facts["timeline"], start["lsn"], stop["lsn"], facts["segment_bytes"]):
            _bring(segment, live, archive, part / DATA / "pg_wal")
        finish(part, folder / name, {**facts, "how": "low-level"})


def copy_tree(source: Path, target: Path, alive: Callable[[], object]) -> None:
    """Copies a running cluster's folder: what vanishes on the way is put right by recovery, links are refused."""
    target.mkdir(mode=0o700)
    for place, folders, names in os.walk(source):
        here = Path(place).relative_to(source)
        into = target / here
        for link in [name for name in (*folders, *names) if (Path(place) / name).is_symlink()]:
            raise Refused(f"{link} is a link (a tablespace, or pg_wal elsewhere)", on=str(source), hint="base_backup")
        for folder in folders:
            (into / folder).mkdir(mode=0o700, exist_ok=True)
        empty = _NOT_COPIED if str(here) == "." else set()
        folders[:] = [folder for folder in folders if folder not in empty and not _LEFT_OUT.fullmatch(folder)]
        for name in names:
            if not _LEFT_OUT.fullmatch(name):
                try:
                    shutil.copy2(Path(place) / name, into / name)
                except FileNotFoundError:
                    continue
        alive()
    (target / "pg_wal" / "archive_status").mkdir(mode=0o700, parents=True, exist_ok=True)


def _bring(segment: str, live: Path, archive: Path | None, into: Path) -> None:
    for place in (live / "pg_wal", *([archive] if archive else [])):
        if (place / segment).is_file():
            shutil.copy2(place / segment, into / segment)
            return
    raise NoData(f"the segment {segment} has been recycled while the copy was made", on=str(live), hint="archive WAL")


def _ranges(tools: Path, part: Path, timeline: int, start: str, stop: str) -> dict[str, Any]:
    told = private_cluster.control(tools, part / DATA, part / ".log")
    return {
        "kind": "cluster",
        "taken_at": datetime.now(UTC).isoformat(timespec="microseconds"),  # it is whole from its end on
        "timeline": timeline,
        "start_lsn": start,
        "stop_lsn": stop,
        "segment_bytes": int(told["Bytes per WAL segment"]),
    }


def _timeline(label: str) -> str:
    match = re.search(r"^START TIMELINE: (\d+)$", label, re.MULTILINE)
    if match is None:
        raise BadAnswer("the server's backup label names no timeline")
    return match[1]


def _sum(path: Path) -> dict[str, Any]:
    return {"size_bytes": path.stat().st_size, "sha256": catalog.sha256(path)}


def _mebibytes(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(place) / name).stat().st_size
            except OSError:
                continue
    return size // 2**20
