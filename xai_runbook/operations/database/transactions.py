"""Section 3 of the runbook: what was committed lately, what was not, and what the write-ahead log is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xai_runbook.errors import AccessDenied, BadAnswer, InputError, TimedOut
from xai_runbook.model.findings import Finding, Limit, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

MOST_TRANSACTIONS = 20_000
_WAL_COLUMNS = ("kind", "records", "size_bytes", "page_image_bytes", "error")


def transaction_counts(database: Database) -> DataFrame:
    """A row for each database: what became of its transactions since its statistics began.

    Columns: database, commits, rollbacks, rollback_ratio (0 to 1; reads count too), deadlocks, conflicts (on a standby:
    queries cancelled for the replay's sake), temp_files, temp_bytes, counted_since. Source: runbook, Quick Decision
    Tree (E74); PostgreSQL docs, pg_stat_database.
    """
    told = database.frame("transaction_counts")
    ended = (told["commits"] + told["rollbacks"]).astype(float)
    return told.assign(rollback_ratio=told["rollbacks"] / ended.where(ended > 0))


def recent_transactions(database: Database, *, most: int = 1000) -> DataFrame:
    """The transactions of the whole server that wrote anything, from the last that has ended back; savepoints too.

    Columns: xid, status (committed, aborted, in progress; None where the server has forgotten), committed_at (None
    unless track_commit_timestamp is on). Which rows a transaction wrote is not kept anywhere: pg_waldump shows their
    places, and there is none on RDS. To get back what was lost: recovery to the time before, into another database.
    Source: runbook, Quick Decision Tree (E74); PostgreSQL docs, txid_status, pg_xact_commit_timestamp.
    """
    if not 1 <= most <= MOST_TRANSACTIONS:
        raise InputError(f"most goes from 1 to {MOST_TRANSACTIONS}", on=database.address)
    return database.frame("recent_transactions", {"most": most})


def wal_by_kind(database: Database, *, least_bytes: int = 4 * 2**20) -> DataFrame:
    """The newest `least_bytes` of the write-ahead log, in whole segments, by the part of the server that wrote them.

    Columns: kind (Heap and Btree are rows and their index entries, Transaction commits, XLOG page images), records,
    size_bytes, page_image_bytes, error. One row with only an `error` where it cannot be told: it needs server 15, the
    extension pg_walinspect and the right to run it. Source: PostgreSQL docs, pg_walinspect.
    """
    from pandas import DataFrame

    found = database.rows("walinspect", {"bytes": least_bytes})
    place = found[0] if found else {}
    if not place:
        why = "pg_walinspect is not in this database (CREATE EXTENSION pg_walinspect, server 15 and later)"
    elif not place["may_count"]:
        why = f"the role may not run it: GRANT EXECUTE ON FUNCTION {place['schema']}.pg_get_wal_stats to it"
    else:
        bounds = {"start": place["start"], "until": place["until"]}
        try:
            return database.frame("wal_by_kind", bounds, {"schema": (place["schema"],)}).assign(error="")
        except (TimedOut, AccessDenied, BadAnswer) as error:
            why = error.what
    return DataFrame([{"kind": "not to be told", "error": why}], columns=list(_WAL_COLUMNS))


def check_aborted(recent_transactions: DataFrame, limit: Limit) -> Finding:
    """`alert` where more of the newest transactions that wrote were rolled back than the limit allows."""
    from pandas import DataFrame

    ended = recent_transactions["status"].isin(["committed", "aborted"]).sum()
    aborted = (recent_transactions["status"] == "aborted").sum()
    ratio = DataFrame({"target": ["transactions"], "ratio": [aborted / ended if ended else float("nan")]})
    return judge(limit, ratio, value="ratio", target="target", noun=f"of the last {ended} that wrote were rolled back")
