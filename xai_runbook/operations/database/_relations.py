"""Look-up of tables and indexes by name, and what plans that change them have in common."""

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

LOCK_TIMEOUT = "1m"
"""How long a concurrent index build waits for one transaction; only other builds on the table wait for it meanwhile."""
MAX_TRANSACTION_SECONDS = "60"
"""Age of the oldest transaction above which no index is built: the build would wait for it."""

Row = Mapping[str, str | None]

MAX_NAMES = 20
"""Tables or indexes per plan; more cannot be reviewed."""


def tables_by_name(database: Database, names: list[str]) -> list[Row]:
    """Return a row per table named "schema.table", spelled as in the catalogue; partitions for a partitioned table.

    Errors: InputError for unknown or repeated names, and for more than MAX_NAMES.
    """
    rows: list[Row] = [facts(row) for row in database.rows("tables_by_name", {"names": names, "role": _role(database)})]
    _all_found(database, names, [str(row["requested_name"]) for row in rows], "tables", "see database.table_sizes")
    return rows


def indexes_by_name(database: Database, names: list[str]) -> list[Row]:
    """Return a row per index named "schema.index". Errors: InputError as for `tables_by_name`."""
    rows: list[Row] = [facts(row) for row in database.rows("indexes_by_name", _lookup(database, indexes=names))]
    found = [f"{row['schema']}.{row['index']}" for row in rows]
    _all_found(database, names, found, "indexes", "see database.indexes")
    return rows


def indexes_of_table(database: Database, table: str) -> list[Row]:
    """Return a row per index of the table. Errors: InputError for an unknown table and for one without indexes."""
    rows: list[Row] = [facts(row) for row in database.rows("indexes_by_name", _lookup(database, tables=[table]))]
    found = [f"{row['table_schema']}.{row['table']}" for row in rows]
    _all_found(database, [table], found, "tables with indexes", "name the partitions of a partitioned table")
    return rows


def refuse_unless_primary(database: Database, verb: str) -> Plan | None:
    """Return the refused Plan of a change that needs a direct connection to a primary, or None if there is one."""
    if database.proxied:
        return refused_plan(
            verb, "maintenance needs a direct connection: through a proxy, sessions are shared with other clients"
        )
    if database.rows("identity")[0]["in_recovery"]:
        return refused_plan(verb, "this server is a standby, which is read-only; connect to the primary")
    return None


def quoted(*parts: str | None) -> str:
    """Return a name as a quoted SQL identifier, for the command line that a plan shows."""
    return ".".join('"' + str(part).replace('"', '""') + '"' for part in parts)


def concurrent_guards(disk_space_checked: bool) -> tuple[Condition, ...]:
    """Return the guards of a concurrent index build: no long transaction, and disk space unless checked by hand."""
    transactions = Condition.of(
        oldest_transaction,
        column="open_seconds",
        comparison="<=",
        value=MAX_TRANSACTION_SECONDS,
        description=f"no transaction in this database is open for more than {MAX_TRANSACTION_SECONDS} s",
    )
    if disk_space_checked:
        return (transactions,)
    disk_space = Condition.of(
        sizes.disk_headroom,
        column="headroom_ratio",
        comparison=">=",
        value="0",
        description="no disk has less free space than limits.monitoring.disk_free",
    )
    return (transactions, disk_space)


def drop_plan(verb: str, database: Database, rows: list[Row], *, precondition: str) -> Plan:
    """Return the Plan that drops these indexes concurrently, each only while `precondition` holds."""
    denied = [f"{row['schema']}.{row['index']}" for row in rows if row["owned_by_operator"] != "true"]
    if denied:
        return refused_plan(verb, f"the operator role does not own {', '.join(denied)}")
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
                lock_timeout=LOCK_TIMEOUT,
                equivalent=psql_command(f"DROP INDEX CONCURRENTLY {quoted(row['schema'], row['index'])}"),
            )
            for row in rows
        ),
        note="" if rows else "no index was named",
        expected=None
        if not rows
        else Condition.of(
            remaining_indexes,
            oids=[int(str(row["oid"])) for row in rows],
            column="left_count",
            comparison="==",
            value="0",
            within="10s",
            description="the indexes are dropped",
        ),
        undo="create them again: " + "; ".join(_concurrent(str(row["definition"])) for row in rows)
        if rows
        else "nothing was done",
        risk=Risk.CHANGE,
    )


def remaining_indexes(database: Database, *, oids: list[int]) -> DataFrame:
    """Return one row: left_count, how many of these indexes still exist."""
    return database.frame("remaining_indexes", {"oids": oids})


def _concurrent(definition: str) -> str:
    return definition.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)


def psql_command(statement: str) -> str:
    """Return the equivalent psql command, which plans show."""
    return f"psql -c {shlex.quote(statement)}"


def oldest_transaction(database: Database) -> DataFrame:
    """Return one row: open_seconds, the age of the oldest transaction of another session of this database, or 0.

    A concurrent index build waits for every transaction that is older than it.
    """
    return database.frame("oldest_transaction")


def _role(database: Database) -> str:
    operator = database.settings.operator
    return operator.user if operator is not None else ""


def _lookup(database: Database, *, indexes: list[str] = [], tables: list[str] = []) -> dict[str, object]:  # noqa: B006
    return {"indexes": indexes, "tables": tables, "role": _role(database)}


def _all_found(database: Database, names: list[str], found: list[str], what: str, hint: str) -> None:
    if len(names) > MAX_NAMES or len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        raise InputError(f"name at most {MAX_NAMES} {what}, each once", on=database.address, hint=hint)
    missing = sorted(set(names) - set(found))
    if missing:
        raise InputError(
            f"there are no {what} named {', '.join(missing)}",
            on=database.address,
            hint=f"write schema.name with the case of the catalogue; {hint}",
        )
