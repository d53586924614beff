"""Section 3 of the runbook: what vacuum has to do, and what it is kept from; vacuum and reindex as plans."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xai_runbook.errors import InputError
from xai_runbook.model.findings import Finding, Limit, judge
from xai_runbook.model.plans import Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.operations.database._relations import (
    WAIT_FOR_OTHERS,
    Row,
    concurrent_guards,
    dropping,
    in_psql,
    indexes_named,
    indexes_of,
    quoted,
    refuse_unless_primary,
    tables_named,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

LEFTOVER = re.compile(r"_cc(new|old)[0-9]*$")
FEWEST_DEAD_ROWS = 1000
"""Fewer dead rows than these are not worth a vacuum, whatever their share: in a table of three, two are soon dead."""


def dead_rows(database: Database, *, most: int = 200) -> DataFrame:
    """A row a table: how much of it is dead, and when it was last vacuumed; the largest share first, at most `most`.

    Columns: name (schema.table), live_rows, dead_rows (estimates), dead_ratio (of all rows; 0 below
    FEWEST_DEAD_ROWS), heap_bytes, vacuumed_at, analyzed_at (by hand or by autovacuum; missing where never since the
    statistics began), changed_rows (since it was analyzed), autovacuum_off, oid.
    Source: PostgreSQL docs, pg_stat_user_tables, Routine Vacuuming.
    """
    return database.frame("dead_rows", {"fewest": FEWEST_DEAD_ROWS, "most": most})


def check_dead_rows(dead_rows: DataFrame, limit: Limit) -> Finding:
    """`alert` with the tables of which more is dead than the limit: autovacuum does not come, or is held back."""
    return judge(limit, dead_rows, value="dead_ratio", target="name", noun="of its rows are dead")


def freeze_age(database: Database) -> DataFrame:
    """A row a database of this server: how far its oldest transaction is from the wall; the nearest first.

    Columns: database, transaction_age, multixact_age (transactions), used_ratio (of the 2^31 there are, the greater
    of the two), forced_from_age (where autovacuum begins to freeze by force).
    Source: PostgreSQL docs, Preventing Transaction ID Wraparound Failures.
    """
    return database.frame("freeze_age")


def check_wraparound(freeze_age: DataFrame, limit: Limit) -> Finding:
    """`alert` where a database has used more of its transaction numbers than the limit; at 100 % nothing is written."""
    return judge(limit, freeze_age, value="used_ratio", target="database", noun="of the transaction numbers are used")


def vacuum_held_back_by(database: Database, *, most: int = 10) -> DataFrame:
    """What keeps vacuum from taking dead rows away: the oldest sessions, replication slots and prepared transactions.

    Columns: kind, name, transaction_age (transactions since), open_seconds (missing for slots).
    Source: PostgreSQL docs, Routine Vacuuming.
    """
    return database.frame("vacuum_held_back_by", {"most": most})


@change
def vacuum(database: Database, *, tables: list[str], within: str = "1h") -> Plan:
    """A Plan that vacuums and analyzes exactly these tables, one after the other; readers and writers go on.

    Never FULL, which locks everybody out and writes the table anew. What another session has locked is left out and
    told. Tables that the operator's role may not vacuum are refused here, since the server calls skipping them success.
    Dead rows that somebody may still see stay: `vacuum_held_back_by` shows for whom. `within` is for each table.
    Errors: InputError for names that lead to no table.
    Source: runbook, Database Maintenance (its VACUUM ANALYZE names no database and skips in silence; errata E28);
    PostgreSQL docs, VACUUM.
    """
    elsewhere = refuse_unless_primary(database, "vacuum")
    if elsewhere is not None:
        return elsewhere
    rows = tables_named(database, tables)
    allowed = [row for row in rows if row["may"] == "true"]
    denied = [f"{row['schema']}.{row['table']} (of {row['owner']})" for row in rows if row["may"] != "true"]
    if rows and not allowed:
        return refused_plan("vacuum", f"the operator's role may vacuum none of these: {', '.join(denied)}")
    notes = [f"left out, as the operator's role may not vacuum them: {', '.join(denied)}"] if denied else []
    return Plan(
        verb="vacuum",
        scope=database.dbname,
        targets=tuple(f"table {row['schema']}.{row['table']}" for row in allowed),
        observed=tuple({key: row[key] for key in ("schema", "table", "oid", "owner")} for row in allowed),
        steps=tuple(step for row in allowed for step in _vacuumed(row, within)),
        note="; ".join(notes) if rows else "no table was named",
        expected=None
        if not allowed
        else Condition.of(
            vacuums_since,
            tables=[f"{row['oid']} {row['vacuums']}" for row in allowed],
            column="more_vacuums",
            comparison=">=",
            value="1",
            within="10s",
            description="each table has been vacuumed once more",
        ),
        undo="needs none: no row that anybody can see is changed",
        risk=Risk.CHANGE,
    )


def vacuums_since(database: Database, *, tables: list[str]) -> DataFrame:
    """A row a table: how often it was vacuumed by hand since ("OID COUNT" each). Columns: name, more_vacuums."""
    return database.frame("vacuums_since", {"tables": tables})


@change
def reindex(
    database: Database, *, index: str = "", table: str = "", within: str = "2h", room_seen: bool = False
) -> Plan:
    """A Plan that rebuilds one index, or all of one table, beside the old ones: readers and writers go on.

    Needs room for a second copy: the plan holds only while no disk is low (`room_seen` is for environments without
    Prometheus, after a look by hand), and only while no transaction here has been open for long, since it waits for
    each. What is interrupted leaves an invalid index behind, which `drop_invalid_indexes` takes away.
    Damaged data? Look first (`consistency`): rebuilding an index destroys the evidence, and mends no table.
    Errors: InputError for names that lead to nothing.
    Source: runbook, Database Maintenance and Quick Decision Tree (its REINDEX DATABASE keeps readers and writers out,
    table by table; errata E29, E73: REPAIR TABLE is MySQL's); PostgreSQL docs, REINDEX.
    """
    elsewhere = refuse_unless_primary(database, "reindex")
    if elsewhere is not None:
        return elsewhere
    if bool(index) == bool(table):
        if index:
            raise InputError("name one index or one table, not both", on=database.address)
        rows: list[Row] = []
    else:
        rows = indexes_named(database, [index]) if index else indexes_of(database, table)
    refused = _not_rebuilt(rows)
    if refused:
        return refused_plan("reindex", refused)
    return Plan(
        verb="reindex",
        scope=database.dbname,
        targets=tuple(f"index {row['schema']}.{row['index']}" for row in rows),
        observed=tuple({key: row[key] for key in ("schema", "index", "oid", "valid", "definition")} for row in rows),
        steps=tuple(
            Sql(
                name="reindex_index",
                parameters={"oid": row["oid"], "schema": row["schema"], "name": row["index"]},
                precondition="relation_as_planned",
                identifiers={"index": (str(row["schema"]), str(row["index"]))},
                seconds=within,
                lock_timeout=WAIT_FOR_OTHERS,
                progress="index_progress",
                equivalent=in_psql(f"REINDEX INDEX CONCURRENTLY {quoted(row['schema'], row['index'])}"),
            )
            for row in rows
        ),
        note="" if rows else "no index and no table was named",
        expected=None
        if not rows
        else Condition.of(
            indexes_rebuilt,
            indexes=[f"{row['oid']} {row['schema']}.{row['index']}" for row in rows],
            column="rebuilt",
            comparison="==",
            value="true",
            within="10s",
            description="each is a new index, and whole",
        ),
        guards=concurrent_guards(room_seen) if rows else (),
        undo="needs none: the same index, built anew; if it ends early, drop_invalid_indexes takes the rest away",
        risk=Risk.CHANGE,
    )


def indexes_rebuilt(database: Database, *, indexes: list[str]) -> DataFrame:
    """A row an index ("OID SCHEMA.INDEX" each): whether its name is another, whole index now.

    Columns: name, rebuilt, left_behind (count of invalid leftovers on its table).
    """
    return database.frame("indexes_rebuilt", {"indexes": indexes})


@change
def drop_invalid_indexes(database: Database, *, indexes: list[str]) -> Plan:
    """A Plan that drops exactly these indexes, none of which is valid: what REINDEX or CREATE INDEX left behind.

    Each is dropped only while its name still leads to the index that was seen, and it still is invalid and nobody
    builds it. Errors: InputError for names that lead to none.
    Source: PostgreSQL docs, REINDEX (Rebuilding Indexes Concurrently).
    """
    elsewhere = refuse_unless_primary(database, "drop_invalid_indexes")
    if elsewhere is not None:
        return elsewhere
    rows = indexes_named(database, indexes)
    refused = [_name(row) for row in rows if row["valid"] == "true"]
    if refused:
        return refused_plan("drop_invalid_indexes", f"these are valid: {', '.join(refused)}; see database.drop_index")
    for why, column in (("being built right now", "building"), ("a constraint's", "of_constraint")):
        refused = [_name(row) for row in rows if row[column] == "true"]
        if refused:
            return refused_plan("drop_invalid_indexes", f"these are {why}: {', '.join(refused)}")
    return dropping("drop_invalid_indexes", database, rows, precondition="index_still_invalid")


def _vacuumed(row: Row, within: str) -> tuple[Sql, Sql]:
    first, second = (
        Sql(
            name=name,
            parameters={"oid": row["oid"], "schema": row["schema"], "name": row["table"]},
            precondition="relation_as_planned",
            identifiers={"table": (str(row["schema"]), str(row["table"]))},
            seconds=within,
            progress="vacuum_progress",
            equivalent=in_psql(f"{words} (SKIP_LOCKED) {quoted(row['schema'], row['table'])}"),
        )
        for name, words in (("vacuum_table", "VACUUM"), ("analyze_table", "ANALYZE"))
    )
    return first, second


def _not_rebuilt(rows: list[Row]) -> str:
    """Why these indexes are not rebuilt concurrently; empty where they are."""
    for why, column, value in (
        ("of the system, and cannot be rebuilt concurrently", "of_system", "true"),
        ("a partitioned table's: name those of its partitions", "kind", "I"),
        ("an exclusion constraint's, which cannot be rebuilt concurrently", "of_exclusion", "true"),
        ("being built right now", "building", "true"),
    ):
        named = [_name(row) for row in rows if row[column] == value]
        if named:
            return f"{', '.join(named)}: {why}"
    left = [_name(row) for row in rows if row["valid"] != "true" and LEFTOVER.search(str(row["index"]))]
    if left:
        return f"{', '.join(left)}: left behind by an earlier rebuilding; drop them first (drop_invalid_indexes)"
    denied = [_name(row) for row in rows if row["may"] != "true"]
    return f"the operator's role does not own {', '.join(denied)}" if denied else ""


def _name(row: Row) -> str:
    return f"{row['schema']}.{row['index']}"
