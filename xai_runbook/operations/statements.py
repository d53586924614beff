"""Sections 3 and 6 of the runbook: which statements cost the time, and how the server would carry one out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from xai_runbook.errors import AccessDenied, NoData
from xai_runbook.findings import Finding, Limit, judge

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.database import Database

FEWEST_CALLS = 5
"""Statements that ran less often matter little: a migration, a report, somebody's question at the terminal."""

_VARIANTS = (((1, 11), "statements_since_1_11"), ((1, 8), "statements_since_1_8"), ((0,), "statements_before_1_8"))


def slow_statements(
    database: Database,
    *,
    order: Literal["total", "mean", "calls"] = "total",
    most: int = 10,
    fewest_calls: int = 1,
) -> DataFrame:
    """This database's statements by the time they took since the statistics began, the costliest first.

    By total, because the slowest on average may have run once; `order="mean"` is the runbook's order.
    Columns: query_id, role, calls, total_seconds, mean_seconds, longest_seconds, total_ratio (of the time of all
    statements here), rows, hit_ratio (blocks from memory), read_seconds (0 without track_io_timing), since (missing
    before extension 1.11), query (no literals, cut).
    Errors: NoData where statements are not counted here, with what to do about it.
    Source: runbook, Slow API Response (fails without the extension and by its version's names; errata E64);
    PostgreSQL docs, pg_stat_statements.
    """
    (state,) = database.rows("statement_statistics")
    if state["version"] is None or not state["loaded"] or state["track"] == "none":
        raise NoData(_why_not_counted(state), on=database.address, hint=_HOW_TO_COUNT)
    if not state["texts_shown"]:
        raise AccessDenied("the role sees no statements but its own", on=database.address, hint="GRANT pg_monitor")
    version = tuple(int(part) for part in re.findall(r"\d+", str(state["version"])))
    name = next(name for since, name in _VARIANTS if version >= since)
    told = {"order": order, "most": most, "fewest_calls": fewest_calls}
    return database.frame(name, told, {"schema": (str(state["schema"]),)})


def check_slow_statements(statements: DataFrame, limit: Limit) -> Finding:
    """`alert` for each statement that takes longer on average than the limit; hand it those that matter.

    Where nothing has run FEWEST_CALLS times yet there is nothing slow.
    """
    if statements.empty:
        return judge(limit, _none_yet(statements), value="mean_seconds", target="name", noun="on average")
    named = statements.assign(name=[f"{text[:60]} ({key})" for text, key in _texts(statements)])
    return judge(limit, named, value="mean_seconds", target="name", noun="on average")


def _texts(statements: DataFrame) -> list[tuple[str, str]]:
    return [(str(text), str(key)) for text, key in zip(statements["query"], statements["query_id"], strict=True)]


def _none_yet(statements: DataFrame) -> DataFrame:
    import pandas as pd

    return pd.DataFrame({"name": ["no statement has run often yet"], "mean_seconds": [0.0]})


_HOW_TO_COUNT = (
    "pg_stat_statements in shared_preload_libraries, a restart, CREATE EXTENSION pg_stat_statements here: 03_database"
    " has the plan"
)


def _why_not_counted(state: dict[str, object]) -> str:
    if not state["loaded"]:
        return "statements are not counted: pg_stat_statements is not in shared_preload_libraries"
    if state["version"] is None:
        return "statements are counted, but the extension pg_stat_statements is not in this database"
    return "statements are not counted: pg_stat_statements.track is none"
