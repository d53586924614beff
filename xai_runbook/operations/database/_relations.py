"""Tables and indexes by the names that people type, told from all others by their oids; what changes of them need."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from xai_runbook.errors import InputError
from xai_runbook.model.plans import Condition, Plan, Risk, Sql, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.operations.database import sizes

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

WAIT_FOR_OTHERS = "1m"
"""How long the building of an index waits for one transaction; it keeps nobody waiting meanwhile but other builders."""
MOST_OPEN_SECONDS = "60"

Row = Mapping[str, str | None]

MOST_NAMED = 20
"""Tables or indexes of one plan: nobody can look at more."""


def tables_named(database: Database, names: list[str]) -> list[Row]:
    """The rows of exactly these tables ("schema.table", as it is written in the catalogue), partitions for a whole.

    Errors: InputError for a name that leads to none, or to more than one.
    """
    rows: list[Row] = [facts(row) for row in database.rows("tables_by_name", {"names": names, "role": _role(database)})]
    _all_found(database, names, [str(row["named"]) for row in rows], "tables", "database.table_sizes shows them")
    return rows


def indexes_named(database: Database, names: list[str]) -> list[Row]:
    """The rows of exactly these indexes ("schema.index"). Errors: InputError as for tables."""
    rows: list[Row] = [facts(row) for row in database.rows("indexes_by_name", _asked(database, indexes=names))]
    found = [f"{row['schema']}.{row['index']}" for row in rows]
    _all_found(database, names, found, "indexes", "database.indexes shows them")
    return rows


def indexes_of(database: Database, table: str) -> list[Row]:
    """The rows of all indexes of that table. Errors: InputError where there is no such table, or it has none."""
    rows: list[Row] = [facts(row) for row in database.rows("indexes_by_name", _asked(database, tables=[table]))]
    found = [f"{row['table_schema']}.{row['table']}" for row in rows]
    _all_found(database, [table], found, "tables with indexes", "of a partitioned table name a partition")
    return rows


def refuse_unless_primary(database: Database, verb: str) -> Plan | None:
    """The refused Plan of maintenance where there can be none: through a proxy, or on a standby."""
    if database.proxied:
        return refused_plan(verb, "maintenance goes to the database itself: through a proxy no session is one's own")
    if database.rows("identity")[0]["in_recovery"]:
        return refused_plan(verb, "this server is a standby, where nothing can be changed; name the primary")
    return None


def quoted(*parts: str | None) -> str:
    """The name as SQL writes it, for the line that a plan shows."""
    return ".".join('"' + str(part).replace('"', '""') + '"' for part in parts)


def concurrent_guards(room_seen: bool) -> tuple[Condition, ...]:
    """What must hold right before an index is built concurrently: nobody to wait for, and room for it."""
    nobody = Condition.of(
        oldest_transaction,
        column="open_seconds",
        comparison="<=",
        value=MOST_OPEN_SECONDS,
        description=f"no transaction here has been open for more than {MOST_OPEN_SECONDS} s",
    )
    if room_seen:
        return (nobody,)
    room = Condition.of(
        sizes.disk_room,
        column="spare_ratio",
        comparison=">=",
        value="0",
        description="no disk has less left than limits.monitoring.disk_free",
    )
    return (nobody, room)


def dropping(verb: str, database: Database, rows: list[Row], *, precondition: str) -> Plan:
    """Return the Plan that drops these indexes concurrently, each only while `precondition` holds."""
    denied = [f"{row['schema']}.{row['index']}" for row in rows if row["owner_may"] != "true"]
    if denied:
        return refused_plan(verb, f"the operator's role does not own {', '.join(denied)}")
    return Plan(
        verb=verb,
        scope=database.dbname,
        targets=tuple(f"index {row['schema']}.{row['index']}" for row in rows),
        observed=tuple({key: row[key] for key in ("schema", "index", "oid", "valid", "definition")} for row in rows),
        steps=tuple(
            Sql(
                name="drop_index",
                parameters={"oid": row["oid"], "schema": row["schema"], "name": row["index"]},
                precondition=precondition,
                identifiers={"index": (str(row["schema"]), str(row["index"]))},
                seconds="10m",
                lock_timeout=WAIT_FOR_OTHERS,
                equivalent=in_psql(f"DROP INDEX CONCURRENTLY {quoted(row['schema'], row['index'])}"),
            )
            for row in rows
        ),
        note="" if rows else "no index was named",
        expected=None
        if not rows
        else Condition.of(
            indexes_left,
            oids=[int(str(row["oid"])) for row in rows],
            column="left_count",
            comparison="==",
            value="0",
            within="10s",
            description="they have gone",
        ),
        undo="by building them again: " + "; ".join(_built_again(str(row["definition"])) for row in rows)
        if rows
        else "nothing was done",
        risk=Risk.CHANGE,
    )


def indexes_left(database: Database, *, oids: list[int]) -> DataFrame:
    """One row: left_count, how many of these indexes are still there."""
    return database.frame("indexes_left", {"oids": oids})


def _built_again(definition: str) -> str:
    return definition.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)


def in_psql(statement: str) -> str:
    """The line for a shell, shown beside the real call."""
    return f"psql -c {shlex.quote(statement)}"


def oldest_transaction(database: Database) -> DataFrame:
    """One row: open_seconds, how long the oldest transaction of another session here is open; 0 where none is.

    Building an index concurrently waits for each that was there before it.
    """
    return database.frame("oldest_transaction")


def _role(database: Database) -> str:
    operator = database.settings.operator
    return operator.user if operator is not None else ""


def _asked(database: Database, *, indexes: list[str] = [], tables: list[str] = []) -> dict[str, object]:  # noqa: B006
    return {"indexes": indexes, "tables": tables, "role": _role(database)}


def _all_found(database: Database, names: list[str], found: list[str], what: str, hint: str) -> None:
    if len(names) > MOST_NAMED or len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        raise InputError(f"name at most {MOST_NAMED} different {what}", on=database.address, hint=hint)
    missing = sorted(set(names) - set(found))
    if missing:
        raise InputError(
            f"there are no {what} called {', '.join(missing)}",
            on=database.address,
            hint=f"schema.name, with case as in the catalogue; {hint}",
        )
