"""Section 3 of the runbook: what vacuum has to do, and what it is kept from; vacuum and reindex as plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.findings import Finding, Limit, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.database import Database

FEWEST_DEAD_ROWS = 1000
"""Fewer dead rows than these are not worth a vacuum, whatever their share: in a table of three, two are soon dead."""


def dead_rows(database: Database) -> DataFrame:
    """A row a table: how much of it is dead, and when it was last vacuumed; the largest share first.

    Columns: name (schema.table), live_rows, dead_rows (estimates), dead_ratio (of all rows; 0 below
    FEWEST_DEAD_ROWS), heap_bytes, vacuumed_at, analyzed_at (by hand or by autovacuum; missing where never since the
    statistics began), changed_rows (since it was analyzed), autovacuum_off, oid.
    Source: PostgreSQL docs, pg_stat_user_tables, Routine Vacuuming.
    """
    return database.frame("dead_rows", {"fewest": FEWEST_DEAD_ROWS})


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
    """`alert` where a database has used more of its transaction numbers than the limit; at the end it stops to write."""
    return judge(limit, freeze_age, value="used_ratio", target="database", noun="of the transaction numbers are used")


def vacuum_held_back_by(database: Database, *, most: int = 10) -> DataFrame:
    """What keeps vacuum from taking dead rows away: the oldest sessions, replication slots and prepared transactions.

    Columns: kind, name, transaction_age (transactions since), open_seconds (missing for slots).
    Source: PostgreSQL docs, Routine Vacuuming.
    """
    return database.frame("vacuum_held_back_by", {"most": most})
