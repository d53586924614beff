"""Restoring: into a new database, and into the place of the old one by renaming both. Runbook, Backup and Restore.

The runbook's `gunzip | psql` restores over the live database: rows are doubled, errors are passed over, and it exits 0
(errata E32). Here nothing is ever restored over anything, and the old database is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_runbook.errors import InputError, inert
from xai_runbook.model.plans import Call, Command, Condition, Plan, Risk, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.pgbackup.database_properties import fixed_differences
from xai_runbook.pgbackup.origin import origin

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.backups import Backups
    from xai_runbook.clients.postgres.reader import Database

MOST_KEPT_BYTES = 63
MOST_NAME_BYTES = MOST_KEPT_BYTES - len("xai_restoring_")
"""What is restored has a longer name until all of it is there."""


def database_named(database: Database, *, name: str) -> DataFrame:
    """One row: name, oid, owner, restored_from (a backup), from_server (another one that it is of), without (what was
    left out).

    oid is empty where there is no such database.
    """
    from pandas import DataFrame

    rows = database.rows("database_named", {"name": name})
    return DataFrame(
        rows or [{"name": name, "oid": "", "owner": "", "restored_from": "", "from_server": "", "without": ""}]
    )


def replaced(database: Database, *, name: str, oid: str, backup: str) -> DataFrame:
    """One row: replaced (the database of that name is another one than that oid, restored from that backup), oid."""
    from pandas import DataFrame

    rows = database.rows("database_named", {"name": name})
    matches = [row["oid"] != oid and row["restored_from"] == backup for row in rows]
    return DataFrame([{"replaced": matches == [True], "oid": rows[0]["oid"] if rows else ""}])


def other_sessions(database: Database, *, names: list[str]) -> DataFrame:
    """One row: sessions_count, who; the sessions of others in these databases, which a swap would wait for.

    Those of the reading role do not count: a swap ends them, and they come back."""
    from pandas import DataFrame

    rows = database.rows("other_sessions", {"names": names})
    count, who = sum(row["sessions_count"] for row in rows), ", ".join(row["who"] for row in rows)
    return DataFrame([{"sessions_count": count, "who": who}])


@change
def restore(database: Database, backups: Backups, *, name: str = "", into: str = "", from_server: str = "") -> Plan:
    """A Plan that restores a verified backup into a new database beside the others, and compares every table.

    The database has a name of its own until all of it is there; extensions that only a superuser may create are left
    out, and named. Nothing reads it before `swap`. Without a name, the newest backup that counts; without `into`, the
    live one's name and "_restored". A backup of another server is taken only where `from_server` names that one (its
    system identifier, as backups.stored shows it). Errors: InputError where there is such a database already.
    Source: runbook, Backup and Restore; errata E32.
    """
    name = name or backups.newest("dump")
    into = into or _free_name(database, "_restored", MOST_NAME_BYTES)
    _require_new_name(database, into)
    backup = backups.named(name)
    if refusal := _refusal(backups, name, from_server):
        return refused_plan("restore", refusal)
    return Plan(
        verb="restore",
        scope=into,
        targets=(f"{into}, a new database, from {name}",),
        observed=(facts({"name": name, "taken_at": backup.manifest["taken_at"], "into": into}),),
        steps=(_restore_command(backups, name, into, *(("--from-server", from_server) if from_server else ())),),
        expected=Condition.of(
            database_named, name=into, column="restored_from", comparison="==",
            value=name, within="5s", description=f"{into} is there",
        ),
        undo=f"DROP DATABASE {into}, by hand, once nobody needs it",
        risk=Risk.CHANGE,
        parts={"database": "exclusive"},
        note=(f"{name} is a backup of another server, {from_server}; " if from_server else "")
        + _notes(database, backup.manifest),
    )  # fmt: skip


@change
def swap(
    database: Database, *, restored: str = "", keep_as: str = "", restored_oid: str = "", live_oid: str = ""
) -> Plan:
    """A Plan that gives a restored database the name of the live one, which is kept under another: both, or neither.

    Rights, settings (those of roles in it too), connection limit and comment of the live one are carried over, and what
    cannot be is named in the plan.
    Nobody else may be in either: whoever is there is listed, and stops it. With oids, as an undo has them, it is
    refused where another database has one of the names. Errors: InputError where one is missing, or the name to keep
    the old one under is taken. Source: errata E32; catalogue, restore_database.
    """
    if not restored:
        return _empty_plan("swap", database.dbname, "no restored database was named")
    live = database.dbname
    previous = keep_as or _free_name(database, "_before", MOST_KEPT_BYTES)
    _require_new_name(database, previous, MOST_KEPT_BYTES)
    (live_row,) = database.rows("database_named", {"name": live})
    found = database.rows("database_named", {"name": restored})
    if not found or restored == live:
        raise InputError(
            f"there is no other database {restored}", on=database.address, hint="xai-runbook plan backups.restore"
        )
    for row, oid in ((found[0], restored_oid), (live_row, live_oid)):
        if oid not in ("", row["oid"]):
            return refused_plan("swap", f"{row['name']} is another database now: its oid is {row['oid']}, not {oid}")
    return Plan(
        verb="swap",
        scope=live,
        targets=(f"{live}, which becomes {previous}; {restored} becomes {live}",),
        observed=(facts(live_row), facts(found[0])),
        steps=(_swap_command(database, live_row["oid"], restored, previous, "--restored-oid", found[0]["oid"]),),
        expected=Condition.of(
            database_named, name=live, column="oid", comparison="==",
            value=found[0]["oid"], within="10s", description=f"{live} is the one that was {restored}",
        ),
        undo=_swap_back(previous, restored, restored_oid=live_row["oid"], live_oid=found[0]["oid"]),
        risk=Risk.DESTRUCTIVE,
        parts={"database": "exclusive", f"database {found[0]['oid']}": "exclusive"},
        note="what was written to the live one since the backup stays in the one that is kept; sessions of the reading "
        "role are ended and come back"
        + (f"; {restored} is from a backup of server {found[0]['from_server']}" if found[0]["from_server"] else "")
        + _not_carried_over(database, restored),
        guards=(_no_other_sessions(live, restored),),
    )  # fmt: skip


@change
def overwrite(database: Database, backups: Backups, *, name: str = "") -> Plan:
    """A Plan that puts a verified backup in the place of the live database, which is kept under another name.

    The words to type name the database and say "overwrite". Everything that was written since the backup is missing in
    the new one. Source: runbook, Backup and Restore, "restore"; items 58 and 114; errata E32, E70.
    """
    live = database.dbname
    if not name:
        return _empty_plan("overwrite", live, "no backup was named")
    backup = backups.named(name)
    if refusal := _refusal(backups, name):
        return refused_plan("overwrite", refusal)
    previous, new = _free_name(database, "_before", MOST_KEPT_BYTES), _free_name(database, "_restored", MOST_NAME_BYTES)
    _require_new_name(database, new)
    (live_row,) = database.rows("database_named", {"name": live})
    return Plan(
        verb="overwrite",
        scope=live,
        targets=(f"{live} with {name}; what is there now is kept as {previous}",),
        observed=(facts(live_row), facts({"name": name, "taken_at": backup.manifest["taken_at"]})),
        steps=(
            _restore_command(backups, name, new),
            _swap_command(database, live_row["oid"], new, previous, "--backup", name, "--folder", str(backups.folder)),
        ),
        expected=Condition.of(
            replaced, name=live, oid=live_row["oid"], backup=name,
            column="replaced", comparison="==", value="true", within="10s",
            description=f"{live} is another one than it was, from {name}",
        ),
        undo=_swap_back(previous, new, restored_oid=live_row["oid"]),
        risk=Risk.DESTRUCTIVE,
        parts={"database": "exclusive"},
        note=f"{_notes(database, backup.manifest)}; what was written since "
        f"{backup.manifest['taken_at'][:19]} UTC stays in {previous}; first ask whether a "
        "recovery to a point in time (backups.recover_to) loses less",
        guards=(_no_other_sessions(live, new),),
    )  # fmt: skip


def _refusal(backups: Backups, name: str, from_server: str = "") -> str:
    """P11: only what was verified is restored, and only our own, or that of the server that was named."""
    backup = backups.named(name)
    if backup.state != "verified":
        return f"{name} is {backup.state} ({backup.why}): xai-runbook plan backups.verify --name {name}"
    if backup.manifest["kind"] != "dump":
        return f"{name} is a base backup of a whole cluster: backups.recover_to goes back with it"
    mismatch, backed_up = backups.origin_mismatch(backup.manifest), origin(backup.manifest)
    if from_server and from_server != backed_up:
        return f"{name} is of server {backed_up}, not of {from_server}"
    if mismatch is None:
        return f"{name} is of this server: leave --from-server out" if from_server else ""
    if from_server and backup.manifest["database"] == backups.database:
        return ""
    return f"{name}: {mismatch}"


def _notes(database: Database, manifest: dict[str, Any]) -> str:
    """What to know before: what cannot be brought or carried over by the operator's role."""
    restricted = {row["name"] for row in database.rows("superuser_extensions")} & set(manifest.get("extensions", []))
    notes = "it needs as much room on the server as the database had"
    if restricted:
        notes += f"; a superuser must bring {', '.join(sorted(restricted))}, where the operator is none"
    return notes + _not_carried_over(database)


def _not_carried_over(database: Database, restored: str = "") -> str:
    """What belongs to the live database and cannot be given to the one that takes its place."""
    operator = database.settings.operator
    parameters = {"name": database.dbname, "role": operator.user if operator is not None else ""}
    missing = [row["what"] for row in database.rows("database_not_carried", parameters)]
    missing += fixed_differences(database.rows, database.dbname, restored) if restored else []
    return f"; not carried over from {database.dbname}: {', '.join(missing)}" if missing else ""


def _require_new_name(database: Database, name: str, most_bytes: int = MOST_NAME_BYTES) -> None:
    if not name or len(name.encode()) > most_bytes or "=" in name or "://" in name or not name.isprintable():
        raise InputError(
            f"{inert(name, 60)!r} cannot be a new database's name", on=database.address,
            hint=f"1 to {most_bytes} bytes, no = and no address",
        )  # fmt: skip
    if database.rows("database_named", {"name": name}):
        raise InputError(f"there is a database {name} already", on=database.address, hint="another name")


def _free_name(database: Database, ending: str, most_bytes: int) -> str:
    """The first name that no database has: the live one's, cut so that all fits in `most_bytes`, and that ending."""
    number = 1
    while True:
        suffix = f"{ending}_{number}"
        name = database.dbname.encode()[: most_bytes - len(suffix)].decode(errors="ignore") + suffix
        if not database.rows("database_named", {"name": name}):
            return name
        number += 1


def _empty_plan(verb: str, scope: str, note: str) -> Plan:
    return Plan(
        verb=verb, scope=scope, targets=(), observed=(), steps=(), expected=None, undo="nothing was done",
        risk=Risk.DESTRUCTIVE, note=note,
    )  # fmt: skip


def _restore_command(backups: Backups, name: str, into: str, *options: str) -> Command:
    tools = backups.programs(int(backups.named(name).manifest["server_version"].split(".")[0]))
    return Command(
        argv=(
            "python", "-m", "xai_runbook.pgbackup", "restore", "--folder", str(backups.folder), "--name", name,
            "--programs", str(tools), "--jobs", str(backups.settings.jobs), "--into", into, *options,
        ),
        environment=backups.step_environment,
        seconds=backups.settings.timeout,
        roles=("database.operator",),
        effects_survive_kill=True,  # ended by force, it leaves what it had filled by then
        equivalent=f"createdb {into} && pg_restore --exit-on-error --dbname={into} {name}/database.dump",
    )  # fmt: skip


def _swap_back(previous: str, keep_as: str, **oids: str) -> Call:
    return Call.of(swap, restored=previous, keep_as=keep_as, **oids)


def _swap_command(database: Database, oid: str, restored: str, previous: str, *oid_options: str) -> Command:
    live, (server,) = database.dbname, database.rows("identity")
    return Command(
        argv=(
            "python", "-m", "xai_runbook.pgbackup", "swap", "--live", live, "--live-oid", oid, "--restored", restored,
            "--keep-as", previous, "--reader", server["role"], *oid_options,
        ),
        environment={},
        seconds="1m",
        roles=("database.operator",),
        effects_survive_kill=True,
        equivalent=f'psql postgres -c "BEGIN; ALTER DATABASE {live} RENAME TO {previous}; '
        f'ALTER DATABASE {restored} RENAME TO {live}; COMMIT"',
    )  # fmt: skip


def _no_other_sessions(*names: str) -> Condition:
    return Condition.of(
        other_sessions, names=list(names), column="sessions_count", comparison="==",
        value="0", description=f"nobody else is in {' or '.join(names)}",
    )  # fmt: skip
