"""Sections 3 and 6 of the runbook: which indexes there are, which are broken, idle or missing, and one more or less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import inert
from xai_runbook.findings import Finding, Limit, Status
from xai_runbook.quantities import quantity

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.database import Database


def indexes(database: Database) -> DataFrame:
    """Every index of this database's own tables, those that are not valid first, then the largest.

    Columns: name (schema.index), table, valid, building (its table is being indexed right now), leftover (named as
    REINDEX CONCURRENTLY names what it leaves behind when it is interrupted), is_unique, of_constraint, size_bytes,
    scans (since the statistics were reset), definition, oid.
    Source: PostgreSQL docs, pg_index, REINDEX (Rebuilding Indexes Concurrently).
    """
    return database.frame("indexes")


def check_invalid_indexes(indexes: DataFrame, limit: Limit) -> Finding:
    """`alert` where more indexes than the limit are broken: written at each change, used by no query.

    One that is being built is not valid yet, and no fault.
    """
    broken = indexes[~indexes["valid"].astype(bool) & ~indexes["building"].astype(bool)]
    building = int((~indexes["valid"].astype(bool) & indexes["building"].astype(bool)).sum())
    wrong = limit.exceeded(len(broken))
    told = f"{len(broken)} of {quantity(len(indexes), limit.unit)} invalid"
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
