"""Indexes: invalid, unused, duplicate and missing ones, and creating and dropping one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import InputError, inert
from xai_runbook.model.findings import Finding, Limit, Status
from xai_runbook.model.plans import Call, Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.model.steps import MOST_NAME_BYTES
from xai_runbook.model.units import quantity
from xai_runbook.operations.database._relations import (
    LOCK_TIMEOUT,
    Row,
    concurrent_guards,
    drop_plan,
    indexes_by_name,
    psql_command,
    quoted,
    refuse_unless_primary,
    tables_by_name,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database


def indexes(database: Database, *, max_rows: int = 200) -> DataFrame:
    """Return the indexes of user tables, invalid ones first, then the largest; at most `max_rows`.

    Columns: name (schema.index), table, valid, building (an index build is running on its table), leftover (has the
    name that an interrupted REINDEX CONCURRENTLY leaves behind), is_unique, backs_constraint, size_bytes, scans (since
    the statistics were reset), definition, oid, total_count (of all indexes, shown or not).
    Source: PostgreSQL docs, pg_index, REINDEX (Rebuilding Indexes Concurrently).
    """
    return database.frame("indexes", {"max_rows": max_rows})


def check_invalid_indexes(indexes: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if more indexes than the limit are invalid: no query uses them, but writes may maintain them.

    An index that is still being built does not count.
    """
    invalid = indexes[~indexes["valid"].astype(bool) & ~indexes["building"].astype(bool)]
    building = int((~indexes["valid"].astype(bool) & indexes["building"].astype(bool)).sum())
    exceeded = limit.exceeded(len(invalid))
    total = int(indexes["total_count"].iloc[0]) if len(indexes) else 0
    summary = f"{len(invalid)} of {quantity(total, limit.unit)} invalid"
    if exceeded:
        summary += f": {', '.join(invalid['name'].head(3))}{' and others' if len(invalid) > 3 else ''}"
    return Finding(
        name=limit.name,
        status=Status.ALERT if exceeded else Status.OK,
        severity=limit.severity,
        summary=inert(summary + (f", {building} being built" if building else "")),
        hint=limit.hint,
        targets=tuple(inert(str(name), 200) for name in invalid["name"]) if exceeded else (),
    )


def unused_indexes(database: Database, *, max_rows: int = 20) -> DataFrame:
    """Return indexes without a scan since the statistics were reset, and that nothing else needs; largest first.

    Check each standby as well, and a whole month: an index can serve a monthly report.
    Columns: name, table, size_bytes, scans, since (the statistics' reset; missing if never), definition.
    Source: PostgreSQL docs, pg_stat_user_indexes.
    """
    return database.frame("unused_indexes", {"max_rows": max_rows})


def duplicate_indexes(database: Database, *, max_rows: int = 20) -> DataFrame:
    """Return indexes whose columns are the same as, or the first of, another index of the table; largest first.

    Both must agree in method, operator classes and their parameters, collations, order and condition; only indexes
    that `drop_index` would drop are listed.
    Columns: name, table, covered_by, size_bytes, definition, covering_definition. Source: PostgreSQL docs, pg_index.
    """
    return database.frame("duplicate_indexes", {"max_rows": max_rows})


def suggested_indexes(
    database: Database, *, min_seq_scans: int = 1000, min_table_rows: int = 1000, max_rows: int = 20
) -> DataFrame:
    """Return where an index is probably missing, with the evidence.

    These are foreign keys without an index, and tables with at least `min_seq_scans` sequential scans; only tables with
    at least `min_table_rows` rows. Columns: table, columns (missing if only the statements show them), evidence,
    seq_scans, rows_read, index_scans, live_rows, size_bytes, statement (missing like the columns).
    Source: runbook, Slow API Response ("Add database indexes"); PostgreSQL docs, pg_stat_user_tables.
    """
    return database.frame(
        "suggested_indexes", {"min_seq_scans": min_seq_scans, "min_table_rows": min_table_rows, "max_rows": max_rows}
    )


@change
def create_index(
    database: Database, *, table: str = "", columns: list[str], within: str = "2h", disk_space_checked: bool = False
) -> Plan:
    """Plan to create a B-tree index over these columns, in this order, without blocking reads or writes.

    There is nothing to do if an index already begins with these columns. The build needs disk space and waits for every
    open transaction, like `database.reindex`. If interrupted, it leaves an invalid index, which
    `database.drop_invalid_indexes` removes. Errors: InputError for an unknown table or column.
    Source: runbook, Slow API Response ("Add database indexes"); PostgreSQL docs, CREATE INDEX (Building Concurrently).
    """
    refused = refuse_unless_primary(database, "create_index")
    if refused is not None:
        return refused
    if not table:
        return _nothing("create_index", database, "no table was named")
    rows = tables_by_name(database, [table])
    if len(rows) != 1 or rows[0]["requested_name"] != f"{rows[0]['schema']}.{rows[0]['table']}":
        return refused_plan("create_index", f"{table} is partitioned: create the index on each partition by name")
    (row,) = rows
    if row["owned_by_operator"] != "true":
        return refused_plan("create_index", f"the operator role does not own {table}; its owner is {row['owner']}")
    found = [facts(column) for column in database.rows("columns_by_name", {"oid": row["oid"], "columns": columns})]
    missing = [name for name in columns if name not in [column["column"] for column in found]]
    if missing or not columns or len(set(columns)) != len(columns):
        what = f"has no columns {', '.join(missing)}" if missing else "needs at least one column, each named once"
        raise InputError(f"{table} {what}", on=database.address)
    numbers = " ".join(str(column["number"]) for column in found)
    existing = database.rows("indexes_with_columns", {"oid": row["oid"], "numbers": numbers})
    if existing:
        return _nothing(
            "create_index", database, f"{existing[0]['name']} begins with these columns: {existing[0]['definition']}"
        )
    name = _index_name(str(row["table"]), columns)
    if database.rows("relation_by_name", {"schema": row["schema"], "name": name}):
        return refused_plan("create_index", f"a relation named {row['schema']}.{name} already exists")
    return Plan(
        verb="create_index",
        scope=database.dbname,
        targets=(f"index {row['schema']}.{name} on {', '.join(columns)}",),
        observed=({key: row[key] for key in ("schema", "table", "oid", "owner")} | {"columns": numbers},),
        steps=(_create_step(row, name, columns, within),),
        expected=Condition.of(
            index_state,
            name=f"{row['schema']}.{name}",
            table_oid=row["oid"],
            column="valid",
            comparison="==",
            value="true",
            within="10s",
            description="the index exists and is valid",
        ),
        guards=concurrent_guards(disk_space_checked),
        undo=Call.of(
            drop_index,
            index=f"{row['schema']}.{name}",
            table_oid=row["oid"],
        ),
        risk=Risk.CHANGE,
    )


def index_state(database: Database, *, name: str, table_oid: str | None = None) -> DataFrame:
    """Return one row: valid, whether an index of that name ("schema.index") exists on that table and is valid."""
    return database.frame("index_state", {"name": name, "table_oid": table_oid})


@change
def drop_index(database: Database, *, index: str = "", table_oid: str = "") -> Plan:
    """Plan to drop one index that nothing depends on, without blocking reads or writes.

    Refused with the reason if it backs a constraint, is the target of a foreign key, a replica identity, clustered on,
    part of a partitioned index, of an extension, the only index that allows a materialized view to be refreshed
    concurrently, or has its own statistics target. With `table_oid`, which an undo has, it is also refused if the name
    has become an index of another table. Errors: InputError for an unknown index. Source: PostgreSQL docs, DROP INDEX.
    """
    refused = refuse_unless_primary(database, "drop_index")
    if refused is not None:
        return refused
    rows = indexes_by_name(database, [index]) if index else []
    for row in rows:
        if table_oid not in ("", row["table_oid"]):
            return refused_plan("drop_index", f"{index} is now an index of another table, {row['table']}")
        reasons = [
            str(requirement["reason"]) for requirement in database.rows("index_requirements", {"oid": row["oid"]})
        ]
        reasons += ["it is being built right now"] if row["building"] == "true" else []
        if reasons:
            return refused_plan("drop_index", inert(f"{index} is needed: {'; '.join(reasons)}", 500))
    return drop_plan("drop_index", database, rows, precondition="index_droppable")


def _create_step(row: Row, name: str, columns: list[str], within: str) -> Sql:
    listed = ", ".join(quoted(column) for column in columns)
    return Sql(
        name="create_index",
        parameters={"oid": row["oid"], "schema": row["schema"], "name": row["table"]},
        precondition="relation_unchanged",
        identifiers={"index": (name,), "table": (str(row["schema"]), str(row["table"]))},
        names={"columns": tuple(columns)},
        seconds=within,
        lock_timeout=LOCK_TIMEOUT,
        progress="index_progress",
        equivalent=psql_command(
            f"CREATE INDEX CONCURRENTLY {quoted(name)} ON {quoted(row['schema'], row['table'])} ({listed})"
        ),
    )


def _index_name(table: str, columns: list[str]) -> str:
    """Return table_column_idx, as PostgreSQL names indexes, shortened to the maximum length of a name."""
    stem = "_".join([table, *columns]).encode()[: MOST_NAME_BYTES - len("_idx")].decode(errors="ignore")
    return f"{stem}_idx"


def _nothing(verb: str, database: Database, why: str) -> Plan:
    return Plan(
        verb=verb, scope=database.dbname, targets=(), observed=(), steps=(), expected=None, undo="nothing was done",
        risk=Risk.CHANGE, note=why,
    )  # fmt: skip
