"""Verifies a backup by restoring it: checksums, a full read, a scratch restore, and a comparison of every table."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xai_runbook.errors import BadAnswer, CannotAsk, NoData
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.fingerprint import contents, differences, total_rows
from xai_runbook.pgbackup.pg_restore import ARCHIVE, ROLES, read_back, restore, uncreatable_extensions
from xai_runbook.pgbackup.pg_tools import find_programs, run
from xai_runbook.pgbackup.recovery import DATA, recovered_cluster
from xai_runbook.pgbackup.scratch import Scratch, scratch

Say = Callable[[str], None]
_ENVIRONMENT_FAILED = re.compile(
    "No space left|could not (write|extend|fsync)|server closed the connection|terminating connection"
    "|was killed by signal|the database system is"
)
"""Errors of PostgreSQL's programs that are the fault of the machine or server, not of the backup."""

_GRANTOR = re.compile(r'^(GRANT .*) GRANTED BY (?:"(?:[^"]|"")*"|\w+);$', re.MULTILINE)
"""Since 16 only the first superuser, whose name differs in a scratch cluster, is accepted as grantor."""


class BackupDamaged(BadAnswer):
    """The backup itself is damaged."""


def verify(folder: Path, name: str, *, programs: str | None, jobs: int, say: Say, just_read: bool = False) -> str:
    """Verify the backup, write the result beside it, and return it as a line.

    An archive that was `just_read` completely before its checksum was made is not read again.
    Errors: BackupDamaged, which is written too; CannotAsk if it could not be tested (no scratch server, no programs),
    and the last result stays.
    """
    backup = catalog.named(folder, name)
    manifest = backup.manifest
    tools = find_programs(programs, int(manifest["server_version"].split(".")[0]))
    try:
        check_files(backup, say)
        result = (
            _cluster(folder, backup, tools, say)
            if manifest["kind"] == "cluster"
            else _dump(folder, backup, tools, jobs, say, just_read)
        )
    except BackupDamaged as error:
        catalog.record(backup.path, {"ok": False, "at": _now(), "why": error.what})
        raise
    catalog.record(backup.path, {"ok": True, "at": _now(), **result, "stamps": catalog.stamps(backup.path, manifest)})
    seconds, where = result["restore_seconds"], result["where"]
    return f"{name} is verified: {result['rows']} rows restored in {seconds:.1f} s into {where}"


def check_files(backup: catalog.Backup, say: Say) -> None:
    """Compare size and SHA-256 of every file with the manifest. Errors: BackupDamaged."""
    for file, expected in backup.manifest["files"].items():
        say(f"reading {file}")
        path = backup.path / file
        if not path.is_file():
            raise BackupDamaged(f"{file} is missing", on=backup.name)
        if path.stat().st_size != expected["size_bytes"]:
            raise BackupDamaged(
                f"{file} has {path.stat().st_size} bytes instead of {expected['size_bytes']}", on=backup.name
            )
        if catalog.sha256(path) != expected["sha256"]:
            raise BackupDamaged(f"{file} is not what was written: its SHA-256 differs", on=backup.name)


def _dump(folder: Path, backup: catalog.Backup, tools: Path, jobs: int, say: Say, just_read: bool) -> dict[str, Any]:
    manifest, archive = backup.manifest, backup.path / ARCHIVE
    encoding, identifier = manifest["encoding"], manifest["system_identifier"]
    with scratch(folder, tools, encoding=encoding, identifier=identifier, progress=lambda: None) as target:
        log = _log(folder)
        try:
            try:
                if not just_read:
                    read_back(tools, archive, log, lambda: say("reading it back"))
            except BadAnswer as error:
                raise _restore_error("it cannot be read to its end", error, backup, target.description) from None
            if target.is_superuser:
                roles = log.with_name(f"{log.name}.roles")
                roles.write_text(_GRANTOR.sub(r"\1;", (backup.path / ROLES).read_text("utf-8")), encoding="utf-8")
                psql: list[str | Path] = [tools / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", roles]
                run(psql, log=log, variables=target.variables)
            started = time.monotonic()
            try:
                restore(
                    tools, archive, log=log, variables=target.variables, jobs=jobs, as_superuser=target.is_superuser,
                    without={} if target.is_superuser else _without(target, manifest),
                    progress=lambda: say(f"restoring into {target.description}"),
                )  # fmt: skip
            except BadAnswer as error:
                raise _restore_error("it cannot be restored", error, backup, target.description) from None
            seconds = time.monotonic() - started
            with target.connect() as session:
                found = contents(
                    session, lambda message: say(f"{message} in the restored database"),
                    fingerprint=manifest["contents"]["fingerprint"],
                )  # fmt: skip
        finally:
            for file in folder.glob(f"{log.name}*"):
                file.unlink()
    differing = differences(manifest["contents"], found)
    if differing:
        raise BackupDamaged(f"the restored database differs from the dump: {'; '.join(differing[:5])}", on=backup.name)
    return {
        "restore_seconds": round(seconds, 3),
        "rows": total_rows(found),
        "tables": len(found["tables"]),
        "where": target.description,
    }


def _without(target: Scratch, manifest: dict[str, Any]) -> dict[str, list[str]]:
    with target.connect() as session:
        return uncreatable_extensions(session, manifest)


def _cluster(folder: Path, backup: catalog.Backup, tools: Path, say: Say) -> dict[str, Any]:
    if (backup.path / DATA / "backup_manifest").exists():  # compares every file with PostgreSQL's own manifest
        try:
            run([tools / "pg_verifybackup", "--quiet", "--", backup.path / DATA], log=_log(folder))
        except BadAnswer as error:
            raise _restore_error("pg_verifybackup rejected it", error, backup, "this machine") from None
        finally:
            _log(folder).unlink(missing_ok=True)
    started = time.monotonic()
    try:
        target = {"recovery_target": "immediate"}
        with recovered_cluster(folder, backup, tools, archive=None, target_settings=target, say=say) as cluster:
            seconds = time.monotonic() - started
            found = cluster.contents(say)
    except BadAnswer as error:
        raise _restore_error("it cannot be started", error, backup, "the private copy") from None
    return {
        "restore_seconds": round(seconds, 3),
        "rows": sum(total_rows(each) for each in found.values()),
        "tables": sum(len(each["tables"]) for each in found.values()),
        "where": "a private copy",
    }


def _restore_error(what: str, error: BadAnswer, backup: catalog.Backup, where: str) -> CannotAsk:
    """Return NoData if the machine or server failed, such as a full disk, else BackupDamaged."""
    if _ENVIRONMENT_FAILED.search(error.what):
        return NoData(f"{where} failed, not the backup: {error.what}", on=backup.name)
    return BackupDamaged(f"{what}: {error.what}", on=backup.name)


def _log(folder: Path) -> Path:
    return folder / ".verify.log"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
