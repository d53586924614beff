"""Databases that interrupted restores leave in a server: marked when they are created, removed by their oids.

Only the mark says that a database is a leftover; its name alone does not.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

from xai_runbook.errors import Refused, XaiRunbookError, inert
from xai_runbook.pgbackup.fingerprint import Connection, beside, fetch_rows

MARK = "xai-runbook fills this database"
REMOVING = "xai_removing_"


class EffectUnknown(XaiRunbookError):
    """A statement was sent and its effect is not known, or only a part of the work was done."""


def mark(session: Connection, name: str) -> str:
    """Mark the database that this session has created, lock it until the session ends, and return its oid."""
    session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(MARK)))
    oid = str(fetch_rows(session, "database_named", {"name": name})[0]["oid"])
    fetch_rows(session, "hold_database", {"oid": oid})
    return oid


def remove_leftover(session: Connection, name: str) -> None:
    """Remove the leftover of that name, if there is one. Errors: as `remove_all`."""
    for row in fetch_rows(session, "leftover_databases"):
        if row["name"] == name:
            remove_all(session, {row["oid"]: name}, lambda _: None)


def remove_all(session: Connection, databases: dict[str, str], say: Callable[[str], None]) -> str:
    """Remove the databases of these oids and names; return a line that says so.

    Errors: Refused, and nothing was changed; EffectUnknown, which names what was removed and changed.
    """
    removed: list[str] = []
    for oid, name in databases.items():
        say(f"removing {name}")
        try:
            remove(session, name, oid)
        except KeyboardInterrupt as error:  # it may have taken effect before it was cancelled
            raise EffectUnknown(
                f"interrupted{_signal(error)} while {name} was removed{_removed_note(removed)}"
            ) from None
        except XaiRunbookError as error:
            if not removed:
                raise
            raise EffectUnknown(f"{error.what}{_removed_note(removed)}", on=error.on, hint=error.hint) from None
        removed.append(name)
    return "all leftovers were removed"


def remove(session: Connection, name: str, oid: str) -> None:
    """Remove the database of that name and oid, if it has our mark and no sessions.

    Its subscriptions are dropped first, without their slots. Then it is renamed in the transaction that compares its
    oid, so that no other database of that name can be dropped.
    Errors: Refused, and nothing was changed; EffectUnknown, which names what was changed.
    """
    temporary = f"{REMOVING}{oid}"
    _require_ours(session, name, oid)
    effects: list[str] = []
    try:
        drop_subscriptions(session, name, oid, effects)
        with session.transaction():
            if name != temporary:
                names = sql.Identifier(name), sql.Identifier(temporary)
                session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
            _require_ours(session, temporary, oid)
        effects += [f"{name} was renamed to {temporary}"] if name != temporary else []
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(temporary)))
    except (psycopg.Error, Refused) as error:
        in_use = isinstance(error, psycopg.errors.ObjectInUse)
        hint = "pg_stat_activity shows its sessions" if in_use else "check it, then make a new plan"
        what = f"{name} was not removed: {_reason(error)}"
        if session.closed:
            raise EffectUnknown(f"{what}; it is not known whether it was dropped", hint=hint) from None
        if effects:
            raise EffectUnknown(f"{what}; {', '.join(effects)}", hint=hint) from None
        raise Refused(what, hint=hint) from None


def drop_subscriptions(session: Connection, name: str, oid: str, dropped: list[str]) -> None:
    """Drop the subscriptions of that database from a session in it, without contacting publishers or dropping slots.

    A database with a subscription cannot be dropped, not even WITH (FORCE). Each one is added to `dropped`.
    Errors: Refused if another database has that name now, psycopg.Error.
    """
    query = "SELECT subname FROM pg_subscription WHERE subdbid = %s::oid ORDER BY subname"
    found = [sql.Identifier(row[0]) for row in session.execute(query, [oid])]
    if not found:
        return
    with beside(session, name) as inside:
        actual = inside.execute("SELECT oid::text FROM pg_database WHERE datname = current_database()").fetchone()
        if actual != (oid,):
            raise Refused(f"there is no database {name} with oid {oid}", hint="make a new plan")
        for subscription in found:
            for statement in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)"):
                inside.execute(sql.SQL(statement).format(subscription))
            inside.execute(sql.SQL("DROP SUBSCRIPTION {}").format(subscription))
            dropped.append(f"its subscription {subscription.as_string(inside)} was dropped")


def _reason(error: psycopg.Error | Refused) -> str:
    """Return the message of the server with its detail."""
    if isinstance(error, Refused):
        return error.what
    parts = [error.diag.message_primary or type(error).__name__, error.diag.message_detail or ""]
    return inert(": ".join(filter(None, parts)), 300)


def _removed_note(removed: list[str]) -> str:
    return f"; removed: {', '.join(removed)}" if removed else ""


def _signal(error: BaseException) -> str:
    return f" by {error}" if str(error) else ""


def _require_ours(session: Connection, name: str, oid: str) -> None:
    found = [row for row in fetch_rows(session, "leftover_databases") if row["name"] == name]
    if [row["oid"] for row in found] != [oid]:
        raise Refused(f"there is no database {name} with oid {oid}", hint="make a new plan")
    if not found[0]["marked"]:
        raise Refused(f"{name} is not marked as a leftover", hint="drop it by hand if it is not needed")
    if found[0]["in_use"]:
        raise Refused(f"{name} is being restored right now", hint="wait until the restore has finished")
