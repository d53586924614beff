"""Restores into a new database, and the swap of its name with the live one. Runbook, Backup and Restore.

The runbook's `gunzip | psql` restores into the live database: rows are duplicated, errors are ignored, and it exits 0
(errata E32). Here a restore always creates a new database, and the old one is kept.
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
"""During a restore the database has a longer name."""


def database_named(database: Database, *, name: str) -> DataFrame:
    """Return one row: name, oid (empty if there is no such database), owner, restored_from, from_server, without.

    restored_from is a backup, from_server the other server that it is of, without what was left out.
    """
    from pandas import DataFrame

    rows = database.rows("database_named", {"name": name})
    return DataFrame(
        rows or [{"name": name, "oid": "", "owner": "", "restored_from": "", "from_server": "", "without": ""}]
    )


def replaced(database: Database, *, name: str, oid: str, backup: str) -> DataFrame:
    """Return one row: replaced (the database has another oid and was restored from that backup), oid."""
    from pandas import DataFrame

    rows = database.rows("database_named", {"name": name})
    matches = [row["oid"] != oid and row["restored_from"] == backup for row in rows]
    return DataFrame([{"replaced": matches == [True], "oid": rows[0]["oid"] if rows else ""}])


def other_sessions(database: Database, *, names: list[str]) -> DataFrame:
    """Return one row: sessions_count, who; the sessions of other roles in these databases, which prevent a swap.

    Sessions of the reader role are not counted: a swap terminates them, and they reconnect.
    """
    from pandas import DataFrame

    rows = database.rows("other_sessions", {"names": names})
    count, who = sum(row["sessions_count"] for row in rows), ", ".join(row["who"] for row in rows)
    return DataFrame([{"sessions_count": count, "who": who}])


@change
def restore(database: Database, backups: Backups, *, name: str = "", into: str = "", from_server: str = "") -> Plan:
    """Return a Plan that restores a verified backup into a new database and compares every table.

    The database has a temporary name until it is complete; extensions that only a superuser may create are left out and
    named. Nothing uses it before `swap`. Without a name, the newest usable backup; without `into`, the name of the live
    database and "_restored". A backup of another server needs its identifier in `from_server`, as backups.stored shows
    it. Errors: InputError if the database exists. Source: runbook, Backup and Restore; errata E32.
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
            value=name, within="5s", description=f"{into} exists",
        ),
        undo=f"DROP DATABASE {into}, by hand, once it is not needed",
        risk=Risk.CHANGE,
        parts={"database": "exclusive"},
        note=(f"{name} is a backup of another server, {from_server}; " if from_server else "")
        + _notes(database, backup.manifest),
    )  # fmt: skip


@change
def swap(
    database: Database, *, restored: str = "", keep_as: str = "", restored_oid: str = "", live_oid: str = ""
) -> Plan:
    """Return a Plan that renames the live database and gives its name to a restored one, in one transaction.

    Privileges, settings (including those of roles in it), connection limit and comment of the live database are carried
    over; the plan names what cannot be. Sessions of other roles in either database prevent the swap and are listed.
    With oids, as in an undo, it is refused if a name belongs to another database. Errors: InputError if a database is
    missing, or the new name of the old one is taken. Source: errata E32; catalogue, restore_database.
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
            value=found[0]["oid"], within="10s", description=f"{live} is the former {restored}",
        ),
        undo=_swap_back(previous, restored, restored_oid=live_row["oid"], live_oid=found[0]["oid"]),
        risk=Risk.DESTRUCTIVE,
        parts={"database": "exclusive", f"database {found[0]['oid']}": "exclusive"},
        note="what was written since the backup stays in the old database; sessions of the reader role are terminated "
        "and reconnect"
        + (f"; {restored} is from a backup of server {found[0]['from_server']}" if found[0]["from_server"] else "")
        + _not_carried_over(database, restored),
        guards=(_no_other_sessions(live, restored),),
    )  # fmt: skip


@change
def overwrite(database: Database, backups: Backups, *, name: str = "") -> Plan:
    """Return a Plan that replaces the live database by a restored backup, and keeps it under another name.

    The confirmation names the database and begins with "overwrite". Everything written since the backup is missing in
    the new database. Source: runbook, Backup and Restore, "restore"; items 58 and 114; errata E32, E70.
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
        targets=(f"{live} with {name}; the current database is kept as {previous}",),
        observed=(facts(live_row), facts({"name": name, "taken_at": backup.manifest["taken_at"]})),
        steps=(
            _restore_command(backups, name, new),
            _swap_command(database, live_row["oid"], new, previous, "--backup", name, "--folder", str(backups.folder)),
        ),
        expected=Condition.of(
            replaced, name=live, oid=live_row["oid"], backup=name,
            column="replaced", comparison="==", value="true", within="10s",
            description=f"{live} is a new database, restored from {name}",
        ),
        undo=_swap_back(previous, new, restored_oid=live_row["oid"]),
        risk=Risk.DESTRUCTIVE,
        parts={"database": "exclusive"},
        note=f"{_notes(database, backup.manifest)}; what was written since "
        f"{backup.manifest['taken_at'][:19]} UTC stays in {previous}; consider first whether a "
        "recovery to a point in time (backups.recover_to) loses less",
        guards=(_no_other_sessions(live, new),),
    )  # fmt: skip


def _refusal(backups: Backups, name: str, from_server: str = "") -> str:
    """Return why the backup must not be restored (P11): it is not verified, or not of this or the named server."""
    backup = backups.named(name)
    if backup.state != "verified":
        return f"{name} is {backup.state} ({backup.why}): xai-runbook plan backups.verify --name {name}"
    if backup.manifest["kind"] != "dump":
        return f"{name} is a base backup of a whole cluster: use backups.recover_to"
    mismatch, backed_up = backups.origin_mismatch(backup.manifest), origin(backup.manifest)
    if from_server and from_server != backed_up:
        return f"{name} is of server {backed_up}, not of {from_server}"
    if mismatch is None:
        return f"{name} is of this server: leave --from-server out" if from_server else ""
    if from_server and backup.manifest["database"] == backups.database:
        return ""
    return f"{name}: {mismatch}"


def _notes(database: Database, manifest: dict[str, Any]) -> str:
    """Return notes for the plan: what the operator role cannot create or carry over."""
    restricted = {row["name"] for row in database.rows("superuser_extensions")} & set(manifest.get("extensions", []))
    notes = "it needs as much disk space on the server as the original"
    if restricted:
        notes += f"; if the operator is not a superuser, a superuser must add {', '.join(sorted(restricted))}"
    return notes + _not_carried_over(database)


def _not_carried_over(database: Database, restored: str = "") -> str:
    """Return a note on the properties of the live database that its replacement will not have."""
    operator = database.settings.operator
    parameters = {"name": database.dbname, "role": operator.user if operator is not None else ""}
    missing = [row["what"] for row in database.rows("database_not_carried", parameters)]
    missing += fixed_differences(database.rows, database.dbname, restored) if restored else []
    return f"; not carried over from {database.dbname}: {', '.join(missing)}" if missing else ""


def _require_new_name(database: Database, name: str, max_bytes: int = MOST_NAME_BYTES) -> None:
    if not name or len(name.encode()) > max_bytes or "=" in name or "://" in name or not name.isprintable():
        raise InputError(
            f"{inert(name, 60)!r} cannot be a new database's name", on=database.address,
            hint=f"1 to {max_bytes} bytes, no = and no address",
        )  # fmt: skip
    if database.rows("database_named", {"name": name}):
        raise InputError(f"database {name} already exists", on=database.address, hint="choose another name")


def _free_name(database: Database, ending: str, max_bytes: int) -> str:
    """Return the first free name: the live one's with the ending and a number, cut to `max_bytes`."""
    number = 1
    while True:
        suffix = f"{ending}_{number}"
        name = database.dbname.encode()[: max_bytes - len(suffix)].decode(errors="ignore") + suffix
        if not database.rows("database_named", {"name": name}):
            return name
        number += 1


def _empty_plan(verb: str, scope: str, note: str) -> Plan:
    return Plan(
        verb=verb, scope=scope, targets=(), observed=(), steps=(), expected=None, undo="nothing to undo",
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
        effects_survive_kill=True,  # if it is killed, the unfinished database remains
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
        value="0", description=f"no other sessions in {' or '.join(names)}",
    )  # fmt: skip
