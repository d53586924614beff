"""Databases that an interrupted restore leaves in a server: marked when they are made, removed by their oids.

A database is ours where it bears our mark, not where it has a name like ours.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from xai_runbook.backup.contents import Connection, ask
from xai_runbook.errors import Refused

MARK = "xai-runbook fills this database"
REMOVING = "xai_removing_"


def mark(session: Connection, name: str) -> str:
    """Marks the database that this session has just made, and holds it for as long as it lives; its oid."""
    session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(MARK)))
    oid = str(ask(session, "database_named", {"name": name})[0]["oid"])
    ask(session, "hold_database", {"oid": oid})
    return oid


def clear(session: Connection, name: str) -> None:
    """Removes what an interrupted run left under that name. Errors: Refused where it is not ours, or still used."""
    for row in ask(session, "leftover_databases"):
        if row["name"] == name:
            remove(session, name, row["oid"])


def remove(session: Connection, name: str, oid: str) -> None:
    """Removes the database of that name and oid, where it bears our mark and nobody is in it.

    It is renamed first, in the transaction that compares, so that no other one of that name can be dropped.
    Errors: Refused, and nothing is done.
    """
    gone = f"{REMOVING}{oid}"
    _compare(session, name, oid)
    try:
        with session.transaction():
            if name != gone:
                names = sql.Identifier(name), sql.Identifier(gone)
                session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
            _compare(session, gone, oid)
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(gone)))
    except psycopg.errors.ObjectInUse:
        raise Refused(f"somebody is in {name}", hint="pg_stat_activity shows who") from None


def _compare(session: Connection, name: str, oid: str) -> None:
    found = [row for row in ask(session, "leftover_databases") if row["name"] == name]
    if [row["oid"] for row in found] != [oid]:
        raise Refused(f"there is no database {name} of oid {oid}", hint="make the plan anew")
    if not found[0]["ours"]:
        raise Refused(f"{name} does not bear our mark", hint="drop it by hand, if nobody needs it")
    if found[0]["in_use"]:
        raise Refused(f"{name} is being filled right now", hint="wait until that is through")
