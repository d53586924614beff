"""Commits and rollbacks, recent transactions, and the contents of the WAL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import AccessDenied, BadAnswer, InputError, TimedOut
from xai_runbook.model.findings import Finding, Limit, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

MAX_TRANSACTIONS = 20_000
_WAL_COLUMNS = ("kind", "records", "size_bytes", "page_image_bytes", "error")


def transaction_counts(database: Database) -> DataFrame:
    """Return commits, rollbacks, deadlocks and temporary files per database since the statistics' reset.

    Columns: database, commits, rollbacks, rollback_ratio (0 to 1; read-only transactions count too), deadlocks,
    conflicts (on a standby: queries cancelled by recovery), temp_files, temp_bytes, counted_since. Source: runbook,
    Quick Decision Tree (E74); PostgreSQL docs, pg_stat_database.
    """
    counts = database.frame("transaction_counts")
    ended = (counts["commits"] + counts["rollbacks"]).astype(float)
    return counts.assign(rollback_ratio=counts["rollbacks"] / ended.where(ended > 0))


def recent_transactions(database: Database, *, max_rows: int = 1000) -> DataFrame:
    """Return the newest transaction IDs of the server, which only writing transactions and their savepoints have.

    Columns: xid, status (committed, aborted, in progress; None if no longer known), committed_at (None unless
    track_commit_timestamp is on). Which rows a transaction wrote is recorded in the WAL only, as block numbers
    (pg_waldump, not on RDS). To recover lost rows, recover to a time before, into another database.
    Source: runbook, Quick Decision Tree (E74); PostgreSQL docs, txid_status, pg_xact_commit_timestamp.
    """
    if not 1 <= max_rows <= MAX_TRANSACTIONS:
        raise InputError(f"max_rows must be between 1 and {MAX_TRANSACTIONS}", on=database.address)
    return database.frame("recent_transactions", {"max_rows": max_rows})


def wal_by_kind(database: Database, *, min_bytes: int = 4 * 2**20) -> DataFrame:
    """Return the newest WAL, at least `min_bytes` rounded up to whole segments, by resource manager.

    Columns: kind (Heap and Btree: rows and their index entries; Transaction: commits; XLOG: page images), records,
    size_bytes, page_image_bytes, error. If it is not available there is one row with an `error`: it needs server 15,
    the extension pg_walinspect and the privilege to run it. Source: PostgreSQL docs, pg_walinspect.
    """
    from pandas import DataFrame

    rows = database.rows("walinspect", {"bytes": min_bytes})
    extension = rows[0] if rows else {}
    if not extension:
        reason = "pg_walinspect is not in this database (CREATE EXTENSION pg_walinspect, server 15 and later)"
    elif not extension["may_execute"]:
        reason = f"the role may not run it: GRANT EXECUTE ON FUNCTION {extension['schema']}.pg_get_wal_stats to it"
    else:
        bounds = {"start": extension["start"], "until": extension["until"]}
        try:
            return database.frame("wal_by_kind", bounds, {"schema": (extension["schema"],)}).assign(error="")
        except (TimedOut, AccessDenied, BadAnswer) as error:
            reason = error.what
    return DataFrame([{"kind": "not available", "error": reason}], columns=list(_WAL_COLUMNS))


def check_aborted(recent_transactions: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if more of the newest writing transactions were rolled back than the limit."""
    from pandas import DataFrame

    ended = recent_transactions["status"].isin(["committed", "aborted"]).sum()
    aborted = (recent_transactions["status"] == "aborted").sum()
    ratio = DataFrame({"target": ["transactions"], "ratio": [aborted / ended if ended else float("nan")]})
    return judge(
        limit, ratio, value="ratio", target="target", noun=f"of the last {ended} writing transactions were rolled back"
    )
