"""Sections 3 and 6 of the runbook: which statements cost the time, and how the server would carry one out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from xai_runbook.errors import AccessDenied, BadAnswer, InputError, NoData, inert
from xai_runbook.model.findings import Finding, Limit, judge
from xai_runbook.model.plans import Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.operations.database._effects import lasting_effects
from xai_runbook.operations.database._relations import in_psql, refuse_unless_primary

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

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
    (state,) = database.rows("statements_counted")
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
        return judge(
            limit,
            _none_yet(statements),
            value="mean_seconds",
            target="name",
            noun="on average: no statement has run often yet",
        )
    named = statements.assign(name=[f"{text[:60]} ({key})" for text, key in _texts(statements)])
    return judge(limit, named, value="mean_seconds", target="name", noun="on average")


def explain(database: Database, *, statement: str = "", analyze: bool = False) -> DataFrame:
    """How the server would carry out one statement, as lines of its plan; it is not run, unless `analyze` is asked for.

    `analyze` runs one SELECT as the reader's role, which can write nothing, within the connection's timeout, and rolls
    back; for a statement that writes see `analyze`, a change. Columns: plan. Put values in the place of $1, $2 from
    `slow_statements`: the plan may depend on them.
    Errors: InputError where it is no such statement; AccessDenied where the role may not read its tables.
    Source: runbook, Quick Decision Tree ("Slow database?"); PostgreSQL docs, EXPLAIN.
    """
    from pandas import DataFrame

    if not statement:
        return DataFrame({"plan": ["no statement was named"]})
    text = _one_statement(statement, _READS if analyze else _EXPLAINED)
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
    """A Plan that runs one statement with EXPLAIN ANALYZE as the operator's role, and rolls back what it did.

    Refused where it names or brings, as by a view or a trigger, a function that does what no rollback takes back, such
    as pg_terminate_backend or dblink; of risk `destructive` where it calls somebody's own functions, of which that
    cannot be told (`database.lasting_effects`). Sequences stay where it moves them, and meanwhile it holds its locks.
    What it is told of the plan stands in the outcome; the statement itself in the plan and the journal: no secrets in
    it. Errors: InputError where it is no single statement of the kinds that can be explained.
    Source: runbook, Quick Decision Tree ("Slow database?"); PostgreSQL docs, EXPLAIN.
    """
    elsewhere = refuse_unless_primary(database, "analyze")
    if elsewhere is not None:
        return elsewhere
    text = _one_statement(statement, _EXPLAINED) if statement else ""
    found = lasting_effects(database, statement=text).to_dict("records") if text else []
    told = {effect: _named(found, effect) for effect in ("lasts", "sequence", "unknown")}
    if told["lasts"]:
        return refused_plan("analyze", f"it may do what no rollback takes back, by {told['lasts']}")
    notes = ["it runs, with its locks, and is rolled back" if text else "no statement was named"]
    if told["sequence"]:
        notes.append("sequences that it moves stay where it moves them")
    if told["unknown"]:
        notes.append(f"not rolled back is what {told['unknown']} may do elsewhere, which cannot be told")
    return Plan(
        verb="analyze",
        scope=database.dbname,
        targets=(inert(f"statement {text}", 200),) if text else (),
        observed=tuple(facts({"name": row["name"], "effect": row["effect"]}) for row in found),
        steps=()
        if not text
        else (
            Sql(
                name="analyze_rolled_back",
                parameters={"statement": text},
                precondition="statement_kept",
                seconds=within,
                atomic=True,
                equivalent=in_psql(f"BEGIN; EXPLAIN (ANALYZE, BUFFERS) {text}; ROLLBACK"),
            ),
        ),
        note="; ".join(notes),
        expected=None
        if not text
        else Condition.of(
            left_open,
            column="left_count",
            comparison="==",
            value="0",
            within="5s",
            description="no transaction of ours is open",
        ),
        undo="cannot be undone beyond what is rolled back" if told["unknown"] else "needs none: it is rolled back",
        risk=Risk.DESTRUCTIVE if told["unknown"] else Risk.CHANGE,
    )


def _named(found: list[dict[Hashable, Any]], effect: str) -> str:
    return inert(", ".join(str(row["name"]) for row in found if row["effect"] == effect), 400)


def left_open(database: Database) -> DataFrame:
    """One row: left_count, how many sessions of an apply sit in a transaction."""
    return database.frame("left_open")


_READS = ("select", "with", "values", "table")
_EXPLAINED = (*_READS, "insert", "update", "delete", "merge")


def _one_statement(statement: str, kinds: tuple[str, ...]) -> str:
    """The statement without its last semicolon. That it is one, and not two, is the server's to see."""
    text = statement.strip().removesuffix(";").strip()
    word = re.match(r"[A-Za-z]*", text)
    if word is None or word[0].lower() not in kinds:
        raise InputError(
            f"this begins like no statement of the kind: {text[:40]!r}", hint=f"one that begins with {', '.join(kinds)}"
        )
    return text


def _texts(statements: DataFrame) -> list[tuple[str, str]]:
    return [(str(text), str(key)) for text, key in zip(statements["query"], statements["query_id"], strict=True)]


def _none_yet(statements: DataFrame) -> DataFrame:
    import pandas as pd

    return pd.DataFrame({"name": ["none"], "mean_seconds": [0.0]})


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
