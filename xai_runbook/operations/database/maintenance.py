"""Dead rows, transaction IDs and what holds vacuum back; plans that vacuum, reindex and drop invalid indexes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xai_runbook.errors import InputError
from xai_runbook.model.findings import Finding, Limit, judge
from xai_runbook.model.plans import Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.operations.database._relations import (
    LOCK_TIMEOUT,
    Row,
    concurrent_guards,
    drop_plan,
    indexes_by_name,
    indexes_of_table,
    psql_command,
    quoted,
    refuse_unless_primary,
    tables_by_name,
)

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

LEFTOVER = re.compile(r"_cc(new|old)[0-9]*$")
MIN_DEAD_ROWS = 1000
"""Tables with fewer dead rows count as 0, since in a tiny table any ratio is soon reached."""


def dead_rows(database: Database, *, max_rows: int = 200) -> DataFrame:
    """Return the share of dead rows and the last vacuum per table; the largest share first, at most `max_rows`.

    Columns: name (schema.table), live_rows, dead_rows (estimates), dead_ratio (of all rows; 0 below MIN_DEAD_ROWS),
    heap_bytes, vacuumed_at, analyzed_at (manually or by autovacuum; missing if never since the statistics' reset),
    changed_rows (since the last analyze), autovacuum_off, oid.
    Source: PostgreSQL docs, pg_stat_user_tables, Routine Vacuuming.
    """
    return database.frame("dead_rows", {"min_dead_rows": MIN_DEAD_ROWS, "max_rows": max_rows})


def check_dead_rows(dead_rows: DataFrame, limit: Limit) -> Finding:
    """Return `alert` with the tables whose share of dead rows exceeds the limit: autovacuum is off or held back."""
    return judge(limit, dead_rows, value="dead_ratio", target="name", noun="of its rows are dead")


def freeze_age(database: Database) -> DataFrame:
    """Return how close each database of the server is to transaction ID wraparound, the closest first.

    Columns: database, transaction_age, multixact_age (IDs since the oldest), used_ratio (the greater of the two, of
    2^31), forced_from_age (autovacuum_freeze_max_age, from which autovacuum freezes even if it is off).
    Source: PostgreSQL docs, Preventing Transaction ID Wraparound Failures.
    """
    return database.frame("freeze_age")


def check_wraparound(freeze_age: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if a database has used more of its transaction IDs than the limit; near 100 % writes stop."""
    return judge(limit, freeze_age, value="used_ratio", target="database", noun="of the transaction IDs are used")


def vacuum_blockers(database: Database, *, max_rows: int = 10) -> DataFrame:
    """Return what keeps vacuum from removing dead rows: the oldest sessions, slots and prepared transactions.

    Columns: kind, name, transaction_age (transaction IDs since), open_seconds (missing for slots).
    Source: PostgreSQL docs, Routine Vacuuming.
    """
    return database.frame("vacuum_blockers", {"max_rows": max_rows})


@change
def vacuum(database: Database, *, tables: list[str], within: str = "1h") -> Plan:
    """Plan to vacuum and analyze exactly these tables in turn, without blocking reads or writes.

    Never FULL, which locks and rewrites the table. A table that another session has locked is skipped with a notice.
    Tables that the operator role may not vacuum are left out here, since the server only warns and reports success.
    Dead rows that an old transaction can still see stay (`vacuum_blockers`). `within` is the time per table.
    Errors: InputError for unknown tables.
    Source: runbook, Database Maintenance (its VACUUM ANALYZE names no database and skips tables silently; errata E28);
    PostgreSQL docs, VACUUM.
    """
    refused = refuse_unless_primary(database, "vacuum")
    if refused is not None:
        return refused
    rows = tables_by_name(database, tables)
    allowed = [row for row in rows if row["may_maintain"] == "true"]
    denied = [f"{row['schema']}.{row['table']} (of {row['owner']})" for row in rows if row["may_maintain"] != "true"]
    if rows and not allowed:
        return refused_plan("vacuum", f"the operator role may not vacuum any of these: {', '.join(denied)}")
    notes = [f"left out, because the operator role may not vacuum them: {', '.join(denied)}"] if denied else []
    return Plan(
        verb="vacuum",
        scope=database.dbname,
        targets=tuple(f"table {row['schema']}.{row['table']}" for row in allowed),
        observed=tuple({key: row[key] for key in ("schema", "table", "oid", "owner")} for row in allowed),
        steps=tuple(step for row in allowed for step in _vacuum_steps(row, within)),
        note="; ".join(notes) if rows else "no table was named",
        expected=None
        if not allowed
        else Condition.of(
            vacuums_since,
            tables=[f"{row['oid']} {row['vacuums']}" for row in allowed],
            column="vacuum_count",
            comparison=">=",
            value="1",
            within="10s",
            description="each table has been vacuumed",
        ),
        undo="not needed: no visible row is changed",
        risk=Risk.CHANGE,
    )


def vacuums_since(database: Database, *, tables: list[str]) -> DataFrame:
    """Return name and vacuum_count per table: manual vacuums since. Each table is given as "OID EARLIER_COUNT"."""
    return database.frame("vacuums_since", {"tables": tables})


@change
def reindex(
    database: Database, *, index: str = "", table: str = "", within: str = "2h", disk_space_checked: bool = False
) -> Plan:
    """Plan to rebuild one index, or all indexes of a table, concurrently, without blocking reads or writes.

    It needs disk space for a second copy: a guard requires that no disk is low, unless `disk_space_checked` says that
    this was checked by hand (for environments without Prometheus). Another guard requires that no transaction is open
    for long, since the build waits for each. If interrupted, it leaves an invalid index, which `drop_invalid_indexes`
    removes. If data may be damaged, check first (`consistency`): rebuilding an index removes the evidence and repairs
    no table. Errors: InputError for unknown names.
    Source: runbook, Database Maintenance and Quick Decision Tree (its REINDEX DATABASE blocks reads and writes, table
    by table; errata E29, E73: REPAIR TABLE is MySQL's); PostgreSQL docs, REINDEX.
    """
    refused = refuse_unless_primary(database, "reindex")
    if refused is not None:
        return refused
    if bool(index) == bool(table):
        if index:
            raise InputError("name one index or one table, not both", on=database.address)
        rows: list[Row] = []
    else:
        rows = indexes_by_name(database, [index]) if index else indexes_of_table(database, table)
    reason = _reindex_refusal(rows)
    if reason:
        return refused_plan("reindex", reason)
    return Plan(
        verb="reindex",
        scope=database.dbname,
        targets=tuple(f"index {row['schema']}.{row['index']}" for row in rows),
        observed=tuple({key: row[key] for key in ("schema", "index", "oid", "valid", "definition")} for row in rows),
        steps=tuple(
            Sql(
                name="reindex_index",
                parameters={"oid": row["oid"], "schema": row["schema"], "name": row["index"]},
                precondition="relation_unchanged",
                identifiers={"index": (str(row["schema"]), str(row["index"]))},
                seconds=within,
                lock_timeout=LOCK_TIMEOUT,
                progress="index_progress",
                equivalent=psql_command(f"REINDEX INDEX CONCURRENTLY {quoted(row['schema'], row['index'])}"),
            )
            for row in rows
        ),
        note="" if rows else "no index or table was named",
        expected=None
        if not rows
        else Condition.of(
            rebuilt_indexes,
            indexes=[f"{row['oid']} {row['schema']}.{row['index']}" for row in rows],
            column="rebuilt",
            comparison="==",
            value="true",
            within="10s",
            description="each index is rebuilt and valid",
        ),
        guards=concurrent_guards(disk_space_checked) if rows else (),
        undo="not needed: the same index, rebuilt; drop_invalid_indexes removes what an interrupted build leaves",
        risk=Risk.CHANGE,
    )


def rebuilt_indexes(database: Database, *, indexes: list[str]) -> DataFrame:
    """Return whether each index ("OLD_OID SCHEMA.INDEX") has been replaced by a new, valid one of the same name.

    Columns: name, rebuilt, leftover_count (invalid indexes that the build has left on its table).
    """
    return database.frame("rebuilt_indexes", {"indexes": indexes})


@change
def drop_invalid_indexes(database: Database, *, indexes: list[str]) -> Plan:
    """Plan to drop exactly these invalid indexes, which an interrupted REINDEX or CREATE INDEX has left.

    Each is dropped only if its name still refers to the same index, which is still invalid and not being built.
    Errors: InputError for unknown indexes.
    Source: PostgreSQL docs, REINDEX (Rebuilding Indexes Concurrently).
    """
    refused = refuse_unless_primary(database, "drop_invalid_indexes")
    if refused is not None:
        return refused
    rows = indexes_by_name(database, indexes)
    for reason, column, hint in (
        ("are valid", "valid", "; see database.drop_index"),
        ("are being built right now", "building", ""),
        ("back a constraint", "backs_constraint", ""),
    ):
        names = ", ".join(_name(row) for row in rows if row[column] == "true")
        if names:
            return refused_plan("drop_invalid_indexes", f"these {reason}: {names}{hint}")
    return drop_plan("drop_invalid_indexes", database, rows, precondition="index_still_invalid")


def _vacuum_steps(row: Row, within: str) -> tuple[Sql, Sql]:
    first, second = (
        Sql(
            name=name,
            parameters={"oid": row["oid"], "schema": row["schema"], "name": row["table"]},
            precondition="relation_unchanged",
            identifiers={"table": (str(row["schema"]), str(row["table"]))},
            seconds=within,
            progress="vacuum_progress",
            equivalent=psql_command(f"{command} (SKIP_LOCKED) {quoted(row['schema'], row['table'])}"),
        )
        for name, command in (("vacuum_table", "VACUUM"), ("analyze_table", "ANALYZE"))
    )
    return first, second


def _reindex_refusal(rows: list[Row]) -> str:
    """Return why these indexes cannot be rebuilt concurrently; empty if they can."""
    for reason, column, value in (
        ("a system index, which cannot be rebuilt concurrently", "is_system", "true"),
        ("the index of a partitioned table: name the indexes of its partitions", "kind", "I"),
        ("the index of an exclusion constraint, which cannot be rebuilt concurrently", "is_exclusion", "true"),
        ("being built right now", "building", "true"),
    ):
        names = [_name(row) for row in rows if row[column] == value]
        if names:
            return f"{', '.join(names)}: {reason}"
    leftovers = [_name(row) for row in rows if row["valid"] != "true" and LEFTOVER.search(str(row["index"]))]
    if leftovers:
        return f"{', '.join(leftovers)}: left by an interrupted rebuild; drop them first (drop_invalid_indexes)"
    denied = [_name(row) for row in rows if row["may_maintain"] != "true"]
    return f"the operator role does not own {', '.join(denied)}" if denied else ""


def _name(row: Row) -> str:
    return f"{row['schema']}.{row['index']}"
