"""Base backups of a running cluster, for recovery with the WAL archive. Runbook, Backup and Restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.model.plans import Command, Condition, Plan, Risk, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.operations.backups import dumps

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.backups import Backups
    from xai_runbook.clients.postgres.reader import Database

_HOSTED = (".rds.amazonaws.com", ".postgres.database.azure.com")


def cluster_space(database: Database, backups: Backups) -> DataFrame:
    """Return one row: available_bytes, needed_bytes (the copy, and a second one to test it), spare_bytes."""
    from pandas import DataFrame

    (row,) = database.rows("cluster_bytes")
    needed, available = int(row["cluster_bytes"] * 2.2), backups.available_bytes()
    return DataFrame([{"available_bytes": available, "needed_bytes": needed, "spare_bytes": available - needed}])


@change
def base_backup(database: Database, backups: Backups) -> Plan:
    """Return a Plan that makes a base backup with pg_basebackup and tests it.

    The test runs pg_verifybackup, then starts a copy of the backup and reads every table. A checkpoint is requested
    immediately (the default waits minutes for one). The operator role needs REPLICATION. Refused on hosted servers such
    as RDS, which grant no such role: use their snapshots. Source: runbook, Backup and Restore; errata E33.
    """
    return _cluster_backup(
        database, backups, "base", "base backup",
        "pg_basebackup --checkpoint=fast --wal-method=stream --pgdata=... && pg_verifybackup ...",
    )  # fmt: skip


@change
def low_level_backup(database: Database, backups: Backups) -> Plan:
    """Return a Plan that makes a base backup with the low-level API: start, copy and stop in one session.

    For servers where pg_basebackup cannot be used. The runbook's two psql calls are two sessions, and its functions
    were removed in 15; the label file that the server returns is written into the copy. The data directory must be on
    this machine. Source: runbook, Backup and Restore; errata E34.
    """
    (row,) = database.rows("cluster")
    if not backups.can_read_data_directory(row["data_directory"]):
        return refused_plan(
            "copy", f"the data directory {row['data_directory']} is not on this machine or not readable"
        )
    return _cluster_backup(
        database, backups, "low-level", "low-level backup",
        'psql: SELECT pg_backup_start(...); \\! cp -a ...; SELECT * FROM pg_backup_stop(); one session',
        *(("--archive", str(backups.archive_folder)) if backups.archive_folder else ()),
    )  # fmt: skip


def _cluster_backup(database: Database, backups: Backups, verb: str, noun: str, equivalent: str, *options: str) -> Plan:
    (row,) = database.rows("cluster")
    address = database.address
    if row["hosted"] or any(host in address for host in _HOSTED):
        return refused_plan(
            "copy", f"{address} is a hosted server, which does not allow copies of its files: take a snapshot"
        )
    if row["tablespace_count"]:
        return refused_plan("copy", f"{row['tablespace_count']} tablespaces are outside the data directory")
    if row["wal_level"] == "minimal":
        return refused_plan("copy", "wal_level is minimal, but a base backup needs replica or logical")
    name = backups.next_name("cluster")
    tools = backups.programs(int(row["server_version"].split(".")[0]))
    observed = {"name": name, "programs": str(tools), "server_version": row["server_version"]}
    return Plan(
        verb="copy",
        scope="cluster",
        targets=(f"{name}, a {noun} of the whole cluster, in {backups.folder}",),
        observed=(facts(observed),),
        steps=(
            Command(
                argv=(
                    "python", "-m", "xai_runbook.pgbackup", verb, "--folder", str(backups.folder), "--name", name,
                    "--programs", str(tools), *options,
                ),
                environment=backups.step_environment,
                seconds=backups.settings.timeout,
                roles=("database.operator",),
                equivalent=equivalent,
            ),
        ),
        expected=Condition.of(
            dumps.backup_state, name=name, column="state", comparison="==", value="verified", within="5s",
            description=f"{name} is verified: it can be started and read",
        ),
        undo=f"xai-runbook plan backups.prune --names {name}, once there is a newer verified one",
        risk=Risk.ADDITIVE,
        note="an immediate checkpoint is requested, which causes disk writes",
        parts={"database": "read"},
        guards=(
            Condition.of(
                cluster_space, column="spare_bytes", comparison=">=", value="0",
                description="there is disk space for the copy and its test",
            ),
        ),
    )  # fmt: skip
