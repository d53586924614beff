"""Dumps, their verification, and the list of all backups. Runbook, Backup and Restore.

The runbook's `pg_dump | gzip` reports success for an empty file: if pg_dump is killed, the pipe still exits 0, and gzip
and psql accept the truncated archive (errata E31). Here a backup is usable only after a restore that was compared.
"""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.plans import Command, Condition, Plan, Risk, change
from xai_runbook.model.scalars import facts
from xai_runbook.pgbackup.origin import UNKNOWN, origin

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.backups import Backups
    from xai_runbook.clients.postgres.reader import Database
    from xai_runbook.pgbackup import catalog

_COLUMNS = [
    "name", "kind", "database", "server", "state", "own", "usable", "taken_at", "age_seconds", "size_bytes", "rows",
    "verified_at", "restore_seconds", "server_version", "why",
]  # fmt: skip


def stored(backups: Backups) -> DataFrame:
    """Return the backups in the folder, newest first, with leftovers of killed runs as `unfinished`.

    Columns: name, kind (dump; cluster: a base backup), database, server (its system identifier, or its address if that
    is not readable), state (verified: restored, compared and not modified since; unverified; damaged; unfinished), own
    (of our server and database; missing if not known), usable (verified and own), taken_at (of its snapshot),
    age_seconds, size_bytes, rows (restored), verified_at, restore_seconds (measured), server_version, why (it is not
    usable). Only sizes and times of files are checked: `verify` reads every byte. Errors: CannotAsk.
    Source: runbook, Quick Decision Tree, "Missing data? Check backups".
    """
    from pandas import DataFrame, Timestamp

    now = datetime.now(UTC)
    rows = []
    for backup, mismatch in reversed(backups.stored_with_mismatch()):
        manifest, verification = backup.manifest, backup.verification
        reasons = (str(mismatch) if mismatch is not None and manifest else "", _why(backup))
        taken = datetime.fromisoformat(manifest["taken_at"]) if manifest else None
        rows.append(
            {
                "name": backup.name,
                "kind": manifest.get("kind"),
                "database": manifest.get("database"),
                "server": origin(manifest) if manifest else None,
                "state": backup.state,
                "own": True if mismatch is None else False if mismatch.certain else None,
                "usable": backup.state == "verified" and mismatch is None,
                "taken_at": taken,
                "age_seconds": (now - taken).total_seconds() if taken else None,
                "size_bytes": manifest.get("size_bytes"),
                "rows": verification.get("rows"),
                "verified_at": Timestamp(verification["at"]) if verification.get("ok") else None,
                "restore_seconds": verification.get("restore_seconds"),
                "server_version": manifest.get("server_version"),
                "why": "; ".join(filter(None, reasons)),
            }
        )
    for name, size in backups.leftovers().items():
        unfinished = {"state": "unfinished", "usable": False, "why": "a run is making it, or was killed"}
        rows.append({"name": name, "size_bytes": size, **unfinished})
    return DataFrame(rows, columns=_COLUMNS)


def check_age(stored: DataFrame, limit: Limit) -> Finding:
    """Alert if the newest usable backup is older than the limit (the RPO), or does not exist.

    `unknown` if there are verified backups but it is not known whether they are of this server.
    """
    usable = stored[stored["usable"].astype(bool)]
    if usable.empty:
        if reason := _perhaps_own(stored):
            return Finding.unknown(limit.name, reason, limit)
        finished = stored[stored["state"] != "unfinished"]
        reasons = "; ".join(f"{row['name']} is {row['state']}: {row['why']}" for _, row in finished.head(3).iterrows())
        return Finding(
            name=limit.name, status=Status.ALERT, severity=limit.severity, hint=limit.hint,
            summary=f"there is no verified backup of this server{f' ({reasons})' if reasons else ' at all'}: "
            f"{limit.describe()}",
        )  # fmt: skip
    return judge(limit, usable.head(1), value="age_seconds", target="name", noun="since the newest verified backup")


def check_restore(stored: DataFrame, limit: Limit) -> Finding:
    """Alert if the measured restore of the newest usable backup took longer than the limit (the RTO)."""
    usable = stored[stored["usable"].astype(bool)]
    if usable.empty:
        reason = _perhaps_own(stored) or "there is no usable backup with a measured restore"
        return Finding.unknown(limit.name, reason, limit)
    return judge(limit, usable.head(1), value="restore_seconds", target="name", noun="to restore the newest backup")


def check_intact(stored: DataFrame, limit: Limit) -> Finding:
    """Alert if more backups are damaged than the limit allows, and name them with the reason.

    Backups of other servers and databases are ignored.
    """
    from pandas import DataFrame

    damaged = stored[(stored["state"] == "damaged") & ~stored["own"].eq(False)]
    reasons = "; ".join(f"{row['name']}: {row['why']}" for _, row in damaged.head(3).iterrows())
    count = DataFrame([{"target": "backups", "damaged": float(len(damaged))}])
    return judge(limit, count, value="damaged", target="target", noun=f"damaged{f' ({reasons})' if reasons else ''}")


def _perhaps_own(stored: DataFrame) -> str:
    """Return why it is not known whether verified backups are of this server; empty if it is."""
    unclear = stored[(stored["state"] == "verified") & stored["own"].isna()]
    return "; ".join(f"{row['name']}: {row['why']}" for _, row in unclear.head(3).iterrows())


def dump_space(database: Database, backups: Backups) -> DataFrame:
    """Return one row: available_bytes, needed_bytes (a dump as large as the database, and its restore), spare_bytes.

    The disk space of a scratch server is not checked.
    """
    from pandas import DataFrame

    (row,) = database.rows("database_bytes")
    factor = 2.2 if backups.settings.scratch == "local" else 1.1
    needed, available = int(row["database_bytes"] * factor), backups.available_bytes()
    return DataFrame([{"available_bytes": available, "needed_bytes": needed, "spare_bytes": available - needed}])


def backup_state(backups: Backups, *, name: str) -> DataFrame:
    """Return one row about the backup of that name.

    Columns: state (verified, unverified, damaged, unfinished, or missing), restore_seconds, why, description (what
    exists and is not usable, with the commands that verify or remove it; empty if verified or missing).
    """
    from pandas import DataFrame

    state, measured, why, description, removal = "missing", None, "", "", ""
    for backup in backups.stored():
        if backup.name == name:
            state, why, measured = backup.state, backup.why, backup.verification.get("restore_seconds")
            removal = _removal_command(backups, backup)
    if state == "missing" and f"{name}.part" in backups.leftovers():
        state, description = "unfinished", f"{name}.part exists, unfinished: the next run removes it"
    if state in ("unverified", "damaged"):
        verify = f"xai-runbook plan backups.verify --name {name} --out verify.json"
        description = f"{name} exists, {state} ({why}). To remove it: {removal}"
        description += f". To verify it: {verify}" if state == "unverified" else ""
    return DataFrame([{"state": state, "restore_seconds": measured, "why": why, "description": description}])


def _why(backup: catalog.Backup) -> str:
    """Return why it is not verified. Without a valid manifest it must be removed by hand."""
    return backup.why if backup.manifest else f"{backup.why}; remove {backup.path} by hand"


def _removal_command(backups: Backups, backup: catalog.Backup) -> str:
    """Return the command that removes the backup: `backups.prune` only removes backups of this server and database."""
    mismatch = None if backup.state == "verified" else backups.origin_mismatch(backup.manifest)
    if mismatch and (mismatch.certain or origin(backup.manifest) == UNKNOWN):
        return f"rm -r {shlex.quote(str(backup.path))}"
    return f"xai-runbook plan backups.prune --names {backup.name} --out prune.json"


def verified_since(backups: Backups, *, name: str, before: str) -> DataFrame:
    """Return the columns of `backup_state`, and verified (since `before`)."""
    found = backup_state(backups, name=name)
    verified_again = str(backups.named(name).verification.get("at", "")) != before
    return found.assign(verified=verified_again & (found["state"] == "verified"))


@change
def dump(database: Database, backups: Backups) -> Plan:
    """Return a Plan that dumps the database, restores the dump into a scratch database, and compares them.

    Every exit code is checked. Roles are dumped too, without passwords. The dump gets its name only when it is complete
    and was read back, and is usable only if the restored tables have the rows and checksums of its snapshot. The
    measured restore is the RTO. Runs unattended if `changes.headless` names `backups.dump`.
    Errors: BadAnswer if pg_dump is older than the server. Source: runbook, Backup and Restore; errata E31.
    """
    (server,) = database.rows("identity")
    tools = backups.programs(int(server["version"].split(".")[0]))
    settings, name = backups.settings, backups.next_name("dump")
    options = ["--jobs", str(settings.jobs), "--format", settings.format, "--compress", str(settings.compress)]
    return Plan(
        verb="dump",
        scope=database.dbname,
        targets=(f"{name} of {database.dbname}, in {backups.folder}",),
        observed=(facts({"name": name, "programs": str(tools), "server_version": server["version"]}),),
        steps=(
            Command(
                argv=(*_command(backups, "dump"), "--name", name, "--programs", str(tools), *options),
                environment=backups.step_environment,
                seconds=settings.timeout,
                roles=("database.operator", "backups.scratch"),
                equivalent=f"pg_dump --format={settings.format} --snapshot=... --file={name}.part/database.dump "
                f"{database.dbname} && pg_restore --file=/dev/null ... && pg_restore --exit-on-error ...",
            ),
        ),
        expected=_is_verified(name),
        undo=f"xai-runbook plan backups.prune --names {name}, once there is a newer verified one",
        risk=Risk.ADDITIVE,
        note="all tables are read twice, once to dump and once to count them; readers and writers are not blocked",
        parts={"database": "read"},
        guards=(
            Condition.of(
                dump_space, column="spare_bytes", comparison=">=", value="0",
                description="there is disk space for the dump and its scratch restore",
            ),
        ),
    )  # fmt: skip


@change
def verify(backups: Backups, *, name: str = "") -> Plan:
    """Return a Plan that reads every byte of a backup, restores it, and compares the result with its manifest.

    The result is written beside the backup: a damaged one is not usable any more. Without a name, the newest.
    Errors: BadAnswer if there is no such backup. Source: runbook, Quick Decision Tree, "Missing data?".
    """
    name = name or backups.newest()
    backup = backups.named(name)
    tools = backups.programs(int(backup.manifest["server_version"].split(".")[0]))
    return Plan(
        verb="verify",
        scope=name,
        targets=(f"{name} in {backups.folder}",),
        observed=(facts({"name": name, "taken_at": backup.manifest["taken_at"]}),),
        steps=(
            Command(
                argv=(
                    *_command(backups, "verify"), "--name", name, "--programs", str(tools),
                    "--jobs", str(backups.settings.jobs),
                ),
                environment=backups.step_environment,
                seconds=backups.settings.timeout,
                roles=("backups.scratch",),
                equivalent=f"sha256sum --check && pg_restore --exit-on-error --dbname=scratch {name}/database.dump",
            ),
        ),
        expected=Condition.of(
            verified_since, name=name, before=str(backup.verification.get("at", "")),
            column="verified", comparison="==", value="true", within="5s",
            description=f"{name} was verified again: restored, and all tables are equal",
        ),
        undo="nothing to undo: the scratch database is removed",
        risk=Risk.ADDITIVE,
    )  # fmt: skip


def _command(backups: Backups, verb: str) -> tuple[str, ...]:
    return ("python", "-m", "xai_runbook.pgbackup", verb, "--folder", str(backups.folder))


def _is_verified(name: str) -> Condition:
    return Condition.of(
        backup_state, name=name, column="state", comparison="==", value="verified",
        within="5s", description=f"{name} is verified: restored, and all tables are equal",
    )  # fmt: skip
