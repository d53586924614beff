"""Slow statements by pg_stat_statements, EXPLAIN, and a plan that runs EXPLAIN ANALYZE and rolls back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from xai_runbook.errors import AccessDenied, BadAnswer, InputError, NoData, inert
from xai_runbook.model.findings import Finding, Limit, judge
from xai_runbook.model.plans import Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.operations.database._effects import lasting_effects
from xai_runbook.operations.database._relations import psql_command, refuse_unless_primary

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

MIN_CALLS = 5
"""Rarer statements matter little: migrations, reports, queries typed by hand."""

_VARIANTS = (((1, 11), "statements_since_1_11"), ((1, 8), "statements_since_1_8"), ((0,), "statements_before_1_8"))


def slow_statements(
    database: Database,
    *,
    order: Literal["total", "mean", "calls"] = "total",
    max_rows: int = 10,
    min_calls: int = 1,
) -> DataFrame:
    """Return this database's statements by execution time since the statistics' reset, the most expensive first.

    Ordered by total time, since the statement with the highest mean may have run once; the runbook orders by mean.
    Columns: query_id, role, calls, total_seconds, mean_seconds, longest_seconds, total_ratio (of the time of all
    statements of this database), rows, hit_ratio (blocks in shared buffers), read_seconds (0 without track_io_timing),
    since (missing before extension version 1.11), query (without literals, truncated).
    Errors: NoData if pg_stat_statements is not active here; its hint says what to do.
    Source: runbook, Slow API Response (fails without the extension, and with its newer column names; errata E64);
    PostgreSQL docs, pg_stat_statements.
    """
    (state,) = database.rows("pg_stat_statements_state")
    if state["version"] is None or not state["loaded"] or state["track"] == "none":
        raise NoData(_inactive_reason(state), on=database.address, hint=_SET_UP_HINT)
    if not state["texts_shown"]:
        raise AccessDenied("the role may not see other roles' statements", on=database.address, hint="GRANT pg_monitor")
    version = tuple(int(part) for part in re.findall(r"\d+", str(state["version"])))
    name = next(name for since, name in _VARIANTS if version >= since)
    parameters = {"order": order, "max_rows": max_rows, "min_calls": min_calls}
    return database.frame(name, parameters, {"schema": (str(state["schema"]),)})


def check_slow_statements(statements: DataFrame, limit: Limit) -> Finding:
    """Return `alert` with the statements whose mean time exceeds the limit; pass only those that run often.

    No statements are `ok`: nothing has run MIN_CALLS times yet.
    """
    if statements.empty:
        return judge(
            limit,
            _no_statement(),
            value="mean_seconds",
            target="name",
            noun="on average: no statement has run often yet",
        )
    named = statements.assign(name=[f"{text[:60]} ({key})" for text, key in _texts(statements)])
    return judge(limit, named, value="mean_seconds", target="name", noun="on average")


def explain(database: Database, *, statement: str = "", analyze: bool = False) -> DataFrame:
    """Return the server's query plan for one statement, one row per line; it is not run unless `analyze` is set.

    `analyze` runs one SELECT with the reader role, which cannot write, within the connection's timeout, and rolls it
    back; one that uses functions with effects is refused. For statements that write use the change `analyze`. Columns:
    plan. Replace $1, $2 of `slow_statements` with
    values, on which the plan may depend.
    Errors: InputError for other kinds of statements; AccessDenied if the role may not read the tables.
    Source: runbook, Quick Decision Tree ("Slow database?"); PostgreSQL docs, EXPLAIN.
    """
    from pandas import DataFrame

    if not statement:
        return DataFrame({"plan": ["no statement was named"]})
    text = _one_statement(statement, _READS if analyze else _EXPLAINED)
    if analyze:
        effects = lasting_effects(database, statement=text)["name"].to_list()
        if effects:
            raise InputError(
                f"it is not run, because it may have effects: {', '.join(effects[:5])}",
                hint="leave out analyze, or make the plan database.analyze",
            )
    try:
        lines = database.explain(text, analyze=analyze)
    except AccessDenied as error:
        raise AccessDenied(
            error.what,
            on=error.on,
            hint=f"GRANT SELECT on its tables to {database.settings.user}, or the plan database.analyze",
        ) from None
    except BadAnswer as error:
        raise InputError(error.what, on=error.on, hint="write names with their schema, as public.blocks") from None
    return DataFrame({"plan": lines})


@change
def analyze(database: Database, *, statement: str = "", within: str = "30s") -> Plan:
    """Plan to run one statement with EXPLAIN ANALYZE as the operator role, and to roll it back.

    Refused if it uses, directly or through a view or trigger, a function with effects that a rollback does not undo,
    such as pg_terminate_backend or dblink. The risk is `destructive` if it calls user functions, whose effects are
    unknown (`database.lasting_effects`). Sequences are not moved back, and locks are held while it runs. The query plan
    is in the outcome; the statement is in the plan and the journal, so it must not contain secrets.
    Errors: InputError unless it is one statement that EXPLAIN supports.
    Source: runbook, Quick Decision Tree ("Slow database?"); PostgreSQL docs, EXPLAIN.
    """
    refused = refuse_unless_primary(database, "analyze")
    if refused is not None:
        return refused
    text = _one_statement(statement, _EXPLAINED) if statement else ""
    rows = lasting_effects(database, statement=text).to_dict("records") if text else []
    effects = {effect: _names(rows, effect) for effect in ("lasts", "sequence", "unknown")}
    if effects["lasts"]:
        return refused_plan("analyze", f"a rollback does not undo all effects of {effects['lasts']}")
    notes = ["the statement runs, holds its locks, and is rolled back" if text else "no statement was named"]
    if effects["sequence"]:
        notes.append("sequences that it advances are not moved back")
    if effects["unknown"]:
        notes.append(f"a rollback may not undo all effects of {effects['unknown']}")
    return Plan(
        verb="analyze",
        scope=database.dbname,
        targets=(inert(f"statement {text}", 200),) if text else (),
        observed=tuple(facts({"name": row["name"], "effect": row["effect"]}) for row in rows),
        steps=()
        if not text
        else (
            Sql(
                name="analyze_rolled_back",
                parameters={"statement": text},
                precondition="store_statement",
                seconds=within,
                atomic=True,
                equivalent=psql_command(f"BEGIN; EXPLAIN (ANALYZE, BUFFERS) {text}; ROLLBACK"),
            ),
        ),
        note="; ".join(notes),
        expected=None
        if not text
        else Condition.of(
            open_apply_transactions,
            column="open_count",
            comparison="==",
            value="0",
            within="5s",
            description="no transaction of an apply is open",
        ),
        undo="cannot be undone beyond what is rolled back" if effects["unknown"] else "not needed: it is rolled back",
        risk=Risk.DESTRUCTIVE if effects["unknown"] else Risk.CHANGE,
    )


def _names(rows: list[dict[Hashable, Any]], effect: str) -> str:
    return inert(", ".join(str(row["name"]) for row in rows if row["effect"] == effect), 400)


def open_apply_transactions(database: Database) -> DataFrame:
    """Return one row: open_count, how many sessions of an apply are idle in a transaction."""
    return database.frame("open_apply_transactions")


_READS = ("select", "with", "values", "table")
_EXPLAINED = (*_READS, "insert", "update", "delete", "merge")


def _one_statement(statement: str, kinds: tuple[str, ...]) -> str:
    """Return the statement without a final semicolon; the server refuses several statements."""
    text = statement.strip().removesuffix(";").strip()
    word = re.match(r"[A-Za-z]*", text)
    if word is None or word[0].lower() not in kinds:
        raise InputError(f"not a supported statement: {text[:40]!r}", hint=f"it must begin with {', '.join(kinds)}")
    return text


def _texts(statements: DataFrame) -> list[tuple[str, str]]:
    return [(str(text), str(key)) for text, key in zip(statements["query"], statements["query_id"], strict=True)]


def _no_statement() -> DataFrame:
    import pandas as pd

    return pd.DataFrame({"name": ["none"], "mean_seconds": [0.0]})


_SET_UP_HINT = (
    "add pg_stat_statements to shared_preload_libraries, restart, CREATE EXTENSION pg_stat_statements here; 03_database"
    " has the plan"
)


def _inactive_reason(state: dict[str, object]) -> str:
    if not state["loaded"]:
        return "no statement statistics: pg_stat_statements is not in shared_preload_libraries"
    if state["version"] is None:
        return "no statement statistics: the extension pg_stat_statements is not in this database"
    return "no statement statistics: pg_stat_statements.track is none"
