"""Sections 3 and 6 of the runbook: which indexes there are, which are broken, idle or missing, and one more or less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import InputError, inert
from xai_runbook.model.findings import Finding, Limit, Status
from xai_runbook.model.plans import Call, Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.model.steps import MOST_NAME_BYTES
from xai_runbook.model.units import quantity
from xai_runbook.operations.database._relations import (
    WAIT_FOR_OTHERS,
    Row,
    concurrent_guards,
    dropping,
    in_psql,
    indexes_named,
    quoted,
    refuse_unless_primary,
    tables_named,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database


def indexes(database: Database, *, most: int = 200) -> DataFrame:
    """The indexes of this database's own tables, those that are not valid first, then the largest; at most `most`.

    Columns: name (schema.index), table, valid, building (its table is being indexed right now), leftover (named as
    REINDEX CONCURRENTLY names what it leaves behind when it is interrupted), is_unique, of_constraint, size_bytes,
    scans (since the statistics were reset), definition, oid, of_all (how many there are, shown or not).
    Source: PostgreSQL docs, pg_index, REINDEX (Rebuilding Indexes Concurrently).
    """
    return database.frame("indexes", {"most": most})


def check_invalid_indexes(indexes: DataFrame, limit: Limit) -> Finding:
    """`alert` where more indexes than the limit are broken: written at each change, used by no query.

    One that is being built is not valid yet, and no fault.
    """
    broken = indexes[~indexes["valid"].astype(bool) & ~indexes["building"].astype(bool)]
    building = int((~indexes["valid"].astype(bool) & indexes["building"].astype(bool)).sum())
    wrong = limit.exceeded(len(broken))
    every = int(indexes["of_all"].iloc[0]) if len(indexes) else 0
    told = f"{len(broken)} of {quantity(every, limit.unit)} invalid"
    if wrong:
        told += f": {', '.join(broken['name'].head(3))}{' and others' if len(broken) > 3 else ''}"
    return Finding(
        name=limit.name,
        status=Status.ALERT if wrong else Status.OK,
        severity=limit.severity,
        summary=inert(told + (f", {building} being built" if building else "")),
        hint=limit.hint,
        targets=tuple(inert(str(name), 200) for name in broken["name"]) if wrong else (),
    )


def unused_indexes(database: Database, *, most: int = 20) -> DataFrame:
    """Indexes that were not scanned once since the statistics were reset, and that hold up nothing; largest first.

    Ask each standby too, and wait for a month's end: an index for one report is used once a month.
    Columns: name, table, size_bytes, scans, since (when the statistics were reset; missing where never), definition.
    Source: PostgreSQL docs, pg_stat_user_indexes.
    """
    return database.frame("unused_indexes", {"most": most})


def duplicate_indexes(database: Database, *, most: int = 20) -> DataFrame:
    """Indexes that another index of the same table covers: the same columns or the other's first ones; largest first.

    Only those that mean the same (method, operator classes and their parameters, collations, order, condition), and
    that `drop_index` would drop.
    Columns: name, table, covered_by, size_bytes, definition, definition_of_other. Source: PostgreSQL docs, pg_index.
    """
    return database.frame("duplicate_indexes", {"most": most})


def suggested_indexes(
    database: Database, *, fewest_reads: int = 1000, fewest_rows: int = 1000, most: int = 20
) -> DataFrame:
    """Where an index is likely to be missing, with the evidence: foreign keys without one, and tables that are read
    from end to end at least `fewest_reads` times; only tables of at least `fewest_rows` rows.

    Columns: table, columns (missing where only the statements can tell them), evidence, whole_reads, rows_read,
    index_scans, live_rows, size_bytes, statement (missing as the columns are).
    Source: runbook, Slow API Response ("Add database indexes"); PostgreSQL docs, pg_stat_user_tables.
    """
    return database.frame("suggested_indexes", {"fewest_reads": fewest_reads, "fewest_rows": fewest_rows, "most": most})


@change
def create_index(
    database: Database, *, table: str = "", columns: list[str], within: str = "2h", room_seen: bool = False
) -> Plan:
    """A Plan that adds one B-tree index over these columns, in this order: readers and writers go on.

    Nothing to do where an index begins with just these columns already. It needs room, and waits for every transaction
    that is open; as `database.reindex`. What is interrupted leaves an invalid index behind, which
    `database.drop_invalid_indexes` takes away. Errors: InputError for a table or column that is not there.
    Source: runbook, Slow API Response ("Add database indexes"); PostgreSQL docs, CREATE INDEX (Building Concurrently).
    """
    elsewhere = refuse_unless_primary(database, "create_index")
    if elsewhere is not None:
        return elsewhere
    if not table:
        return _nothing("create_index", database, "no table was named")
    rows = tables_named(database, [table])
    if len(rows) != 1 or rows[0]["named"] != f"{rows[0]['schema']}.{rows[0]['table']}":
        return refused_plan("create_index", f"{table} is partitioned: make the index on each partition, by name")
    (row,) = rows
    if row["owner_may"] != "true":
        return refused_plan("create_index", f"the operator's role does not own {table}; its owner is {row['owner']}")
    found = [facts(one) for one in database.rows("columns_by_name", {"oid": row["oid"], "columns": columns})]
    missing = [name for name in columns if name not in [one["column"] for one in found]]
    if missing or not columns or len(set(columns)) != len(columns):
        raise InputError(f"{table} has no such columns: {', '.join(missing) or 'name each once'}", on=database.address)
    numbers = " ".join(str(one["number"]) for one in found)
    same = database.rows("indexes_with_columns", {"oid": row["oid"], "numbers": numbers})
    if same:
        return _nothing(
            "create_index", database, f"{same[0]['name']} begins with these columns: {same[0]['definition']}"
        )
    name = _named(str(row["table"]), columns)
    if database.rows("relation_named", {"schema": row["schema"], "name": name}):
        return refused_plan("create_index", f"there is something called {row['schema']}.{name} already")
    return Plan(
        verb="create_index",
        scope=database.dbname,
        targets=(f"index {row['schema']}.{name} on {', '.join(columns)}",),
        observed=({key: row[key] for key in ("schema", "table", "oid", "owner")} | {"columns": numbers},),
        steps=(_created(row, name, columns, within),),
        expected=Condition.of(
            index_state,
            name=f"{row['schema']}.{name}",
            table_oid=row["oid"],
            column="valid",
            comparison="==",
            value="true",
            within="10s",
            description="the index is there, and whole",
        ),
        guards=concurrent_guards(room_seen),
        undo=Call.of(
            drop_index,
            index=f"{row['schema']}.{name}",
            table_oid=row["oid"],
        ),
        risk=Risk.CHANGE,
    )


def index_state(database: Database, *, name: str, table_oid: str | None = None) -> DataFrame:
    """One row: valid, whether the index of that name ("schema.index"), on that very table, is there and whole."""
    return database.frame("index_state", {"name": name, "table_oid": table_oid})


@change
def drop_index(database: Database, *, index: str = "", table_oid: str = "") -> Plan:
    """A Plan that drops one index that nothing depends on; readers and writers go on.

    Refused with the reason where it is of a constraint, a foreign key's target, a replica identity, clustered on, a
    part of a partitioned index, an extension's, the only one by which a materialized view can be refreshed
    concurrently, or has a statistics target of its own.
    With an oid, as an undo has it, it is refused where the name leads to an index of another table.
    Errors: InputError for a name that leads to none. Source: PostgreSQL docs, DROP INDEX.
    """
    elsewhere = refuse_unless_primary(database, "drop_index")
    if elsewhere is not None:
        return elsewhere
    rows = indexes_named(database, [index]) if index else []
    for row in rows:
        if table_oid not in ("", row["table_oid"]):
            return refused_plan("drop_index", f"{index} is an index of another table now, {row['table']}")
        reasons = [str(held["reason"]) for held in database.rows("index_held_by", {"oid": row["oid"]})]
        reasons += ["it is being built right now"] if row["building"] == "true" else []
        if reasons:
            return refused_plan("drop_index", inert(f"{index} stays: {'; '.join(reasons)}", 500))
    return dropping("drop_index", database, rows, precondition="index_may_go")


def _created(row: Row, name: str, columns: list[str], within: str) -> Sql:
    listed = ", ".join(quoted(column) for column in columns)
    return Sql(
        name="create_index",
        parameters={"oid": row["oid"], "schema": row["schema"], "name": row["table"]},
        precondition="relation_as_planned",
        identifiers={"index": (name,), "table": (str(row["schema"]), str(row["table"]))},
        names={"columns": tuple(columns)},
        seconds=within,
        lock_timeout=WAIT_FOR_OTHERS,
        progress="index_progress",
        equivalent=in_psql(
            f"CREATE INDEX CONCURRENTLY {quoted(name)} ON {quoted(row['schema'], row['table'])} ({listed})"
        ),
    )


def _named(table: str, columns: list[str]) -> str:
    """table_column_column_idx, as PostgreSQL names them, shortened at a character's end to what a name may have."""
    stem = "_".join([table, *columns]).encode()[: MOST_NAME_BYTES - len("_idx")].decode(errors="ignore")
    return f"{stem}_idx"


def _nothing(verb: str, database: Database, why: str) -> Plan:
    return Plan(
        verb=verb, scope=database.dbname, targets=(), observed=(), steps=(), expected=None, undo="nothing is done",
        risk=Risk.CHANGE, note=why,
    )  # fmt: skip
