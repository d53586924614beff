"""The checks before a plan is applied: one function for each reason to refuse it, in the order that `apply` uses.

Each raises Refused before anything is done. tests/changes/test_guards.py disables each in turn and expects its test to
fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from xai_runbook.changes import registry
from xai_runbook.changes.journal import Entry, Journal
from xai_runbook.environment import handles
from xai_runbook.errors import InputError, NotConfigured, Refused, XaiRunbookError
from xai_runbook.model.parts import overlap, touched_parts
from xai_runbook.model.plans import EXPIRES_AFTER, Command, Condition, HttpCall, Plan, Sql, Step
from xai_runbook.model.scalars import facts
from xai_runbook.model.steps import operation_name
from xai_runbook.operations.database.statements import open_apply_transactions
from xai_runbook.system import clock

if TYPE_CHECKING:
    from xai_runbook.environment import Environment


@dataclass(frozen=True)
class Case:
    """Input of the checks."""

    plan: Plan
    file_digest: str
    """The digest in the plan's file; the plan's own if it was never written to a file."""
    plan_digest: str
    """The plan's own digest, computed once."""
    env: Environment
    journal: Journal
    confirm: str


def refuse_edited(case: Case) -> None:
    """Refuse a plan that was edited: the digest covers every field, creation and expiry too (P5)."""
    if case.file_digest != case.plan_digest:
        raise Refused("the plan was edited after it was made", on=case.plan.verb, hint="make a new plan")


def refuse_unknown_change(case: Case) -> None:
    """Refuse a change that is not marked as one in xai_runbook.operations: nothing else is ever called (P4)."""
    registry.find_change(case.plan.change)


def refuse_expired(case: Case) -> None:
    """Refuse a plan that is older than some minutes (P5)."""
    created, expires = (datetime.fromisoformat(text) for text in (case.plan.created_at, case.plan.expires_at))
    expires = min(expires, created + EXPIRES_AFTER)  # whatever the file says
    if datetime.now(UTC) >= expires:
        raise Refused(f"the plan expired at {expires:%Y-%m-%d %H:%M:%S} UTC", on=case.plan.verb, hint="make a new plan")


def refuse_clock_change(case: Case) -> None:
    """Refuse a plan if the clock was set since it was made: its expiry would mean nothing (P5)."""
    created = datetime.fromisoformat(case.plan.created_at)
    ahead = (created - datetime.now(UTC)).total_seconds()
    if ahead > clock.MAX_DRIFT_SECONDS:
        raise Refused(
            f"the plan was made {ahead:.0f} s in the future", on=case.plan.created_at, hint="set this machine's clock"
        )
    moved = clock.wall_clock_shift(created, case.plan.boot)
    if abs(moved) > clock.MAX_DRIFT_SECONDS:
        raise Refused(
            f"the wall clock was set by {moved:+.0f} s since the plan was made",
            on=case.plan.boot,
            hint="check the clock, then make a new plan",
        )


def refuse_other_environment(case: Case) -> None:
    """Refuse a plan for another environment, by name (P3)."""
    if case.plan.environment != case.env.name:
        raise Refused(
            f"the plan is for environment {case.plan.environment!r}",
            on=f"this is {case.env.name!r}",
            hint="connect to that environment, or make a new plan in this one",
        )


def refuse_other_server(case: Case) -> None:
    """Refuse a plan for another server, by measured identity (P3).

    A name can lead to another server, and a restored snapshot keeps its system identifier.
    """
    for handle in sorted({key.partition(".")[0] for key in case.plan.identity}):
        if handle not in handles():
            raise Refused(f"no handle is called {handle!r:.60}", on="the plan", hint="make a new plan")
        now = {f"{handle}.{name}": value for name, value in getattr(case.env, handle).identity().items()}
        for key, then in sorted(case.plan.identity.items()):
            if key.startswith(f"{handle}.") and now.get(key) != then:
                name = key.partition(".")[2]
                what = "database" if name == "database_oid" else "server"
                raise Refused(
                    f"another {what} answers: {name} was {then} and is {now.get(key)}",
                    on=handle,
                    hint="make a new plan",
                )


def refuse_used(case: Case) -> None:
    """Refuse a plan that was applied before (P8)."""
    for entry in case.journal.entries():
        if entry.intent.get("digest") == case.plan_digest:
            raise Refused(
                f"this plan was applied before, at {str(entry.intent['at'])[:19]} UTC by {entry.intent['user']}",
                on=f"journal entry {entry.number}",
                hint="make a new plan",
            )


def refuse_stopped(case: Case) -> None:
    """Refuse while the journal's stop file exists; checked again before each step (P20)."""
    why = case.journal.stop_reason()
    if why is not None:
        raise Refused(f"changes are stopped: {why}", on=str(case.journal.stop_file), hint="xai-runbook resume")


def refuse_unknown_outcome(case: Case) -> None:
    """Refuse a plan that overlaps with one of unknown outcome, until that one is reconciled (P16)."""
    for entry in case.journal.entries():
        if entry.status != "unknown":
            continue
        plan = entry.intent.get("plan", {})
        parts = plan.get("parts", {})
        # a plan of an earlier version may lack parts that its identity has now: it may have touched anything
        complete = "parts" in plan and touched_parts(plan.get("identity", {}), {}).keys() <= parts.keys()
        common = overlap(case.plan.parts, parts) if complete else list(case.plan.parts)
        if common:
            raise Refused(
                f"the outcome of an earlier change is unknown (journal entry {entry.number}, {_last_summary(entry)})",
                on=", ".join(common),
                hint=f"xai-runbook journal reconcile {entry.number}",
            )


def refuse_without_operator(case: Case) -> None:
    """Raise NotConfigured unless the settings have an operator for each part that the plan changes."""
    acting = [step for step in case.plan.steps if _uses_operator(step)]
    parts = {step.part if isinstance(step, HttpCall) else "database" for step in acting}
    parts |= {"database"} if any(key.startswith("database.") for key in case.plan.identity) else set()
    for part in sorted(parts):
        if getattr(getattr(case.env.settings, part), "operator", None) is None:
            raise NotConfigured(
                f"{part}.operator is not configured, so nothing can be changed",
                on=f"{part}.operator",
                hint=f"add a table [{part}.operator] to the settings",
            )


def _uses_operator(step: Step) -> bool:
    """Return whether the step uses an operator's role."""
    return isinstance(step, Sql | HttpCall) or (isinstance(step, Command) and "database.operator" in step.roles)


# with the target's lock held


def refuse_outdated(case: Case) -> None:
    """Refuse unless planning the same change again gives the same plan (P6)."""
    try:
        again = registry.make_plan(case.env, case.plan.change, case.plan.arguments)
    except InputError as error:
        raise Refused(
            f"the system has changed since the plan was made, and it cannot be made again: {error.what}",
            on=target(case.plan),
            hint="check the difference, then make a new plan",
        ) from None
    if again.refused:
        raise Refused(again.refused, on=target(case.plan), hint="fix it, then make a new plan")
    if again.comparable != case.plan.comparable:
        raise Refused(
            f"the system has changed since the plan was made: {difference(case.plan.comparable, again.comparable)}",
            on=target(case.plan),
            hint="check the difference, then make a new plan",
        )


def refuse_wrong_confirmation(case: Case) -> None:
    """Refuse unless the plan's confirmation was typed, which contains the start of its digest (P8)."""
    if case.confirm.split() != case.plan.confirmation.split():
        # what was typed is not shown: it may be a password, typed into the wrong prompt
        raise Refused(
            "the confirmation does not match the plan", on=target(case.plan), hint=f"type: {case.plan.confirmation}"
        )


def refuse_fulfilled(case: Case) -> None:
    """Refuse if the expected condition holds already: seeing it afterwards would prove nothing (P12)."""
    if _is_fulfilled(case.env, case.plan):
        raise Refused(
            f"there is nothing to do, this already holds: {case.plan.expected}",
            on=target(case.plan),
            hint="check whether somebody else did it",
        )


def refuse_failed_guard(case: Case) -> None:
    """Refuse unless the plan's guards hold: conditions on quantities that always move (P11)."""
    for guard in case.plan.guards:
        fulfilled, rows = holds(case.env, guard)
        if not fulfilled:
            raise Refused(f"{guard} does not hold: {rows or 'no rows'}", on=target(case.plan), hint="fix it first")


BEFORE_THE_LOCK: tuple[Callable[[Case], None], ...] = (
    refuse_edited,
    refuse_unknown_change,
    refuse_expired,
    refuse_clock_change,
    refuse_other_environment,
    refuse_other_server,
    refuse_used,
    refuse_stopped,
    refuse_without_operator,
)
UNDER_THE_LOCK: tuple[Callable[[Case], None], ...] = (
    refuse_used,
    refuse_stopped,
    refuse_unknown_outcome,
    refuse_outdated,
    refuse_wrong_confirmation,
    refuse_fulfilled,
    refuse_failed_guard,
)
"""The first two are repeated: the previous holder of the lock may have written to the journal. Unknown outcomes are
checked only here: a plan that is still being applied has no outcome either, and is better reported as a held lock."""


UNCHANGING_QUERIES = (operation_name(open_apply_transactions),)
"""Queries of plans that leave no trace: their condition must hold before and afterwards."""


def skip_if_fulfilled(env: Environment, plan: Plan) -> Plan:
    """Return the plan, without its steps if its expected condition is known to hold already."""
    with suppress(XaiRunbookError):
        if _is_fulfilled(env, plan):
            note = f"there is nothing to do, this already holds: {plan.expected}"
            return replace(plan, steps=(), expected=None, note=note)
    return plan


def _is_fulfilled(env: Environment, plan: Plan) -> bool:
    expected = plan.expected
    return expected is not None and expected.query not in UNCHANGING_QUERIES and holds(env, expected)[0]


def target(plan: Plan) -> str:
    """Return the parts that the plan changes, for messages; if it changes none, those that it reads."""
    return ", ".join([name for name, mode in plan.parts.items() if mode != "read"] or plan.parts)


def holds(env: Environment, condition: Condition) -> tuple[bool, list[Mapping[str, str | None]]]:
    """Return whether the condition holds now, and the rows of its query. Errors: those of its query."""
    frame = registry.run_query(env, condition.query, condition.arguments)
    frame = frame.astype(object).where(frame.notna(), None)  # pandas has several kinds of missing values
    rows = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    observed: list[Mapping[str, str | None]] = [facts(row) for row in rows]
    fulfilled = bool(observed) and all(_compare(row[condition.column], condition) for row in observed)
    return fulfilled, observed


def unchanged(env: Environment, plan: Plan) -> bool:
    """Return whether planning the same change again gives the same plan."""
    try:
        again = registry.make_plan(env, plan.change, plan.arguments)
    except XaiRunbookError:
        return False
    return not again.refused and again.comparable == plan.comparable


def leftovers(rows: Sequence[Mapping[str, str | None]]) -> str:
    """Return what a failed step has left behind: the column `description` of these rows, joined."""
    return "; ".join(row["description"] for row in rows if row.get("description"))  # type: ignore[misc]


def _compare(value: str | None, condition: Condition) -> bool:
    if condition.comparison == "==":
        return value == condition.value
    if value is None:
        return False
    if condition.comparison == "<=":
        return Decimal(value) <= Decimal(condition.value)
    return Decimal(value) >= Decimal(condition.value)


def difference(then: Plan, now: Plan) -> str:
    """Return the differences between two plans: rows that are gone, new or changed; else other fields."""
    gone = [row for row in then.observed if row not in now.observed]
    new = [row for row in now.observed if row not in then.observed]
    changes = [f"{_row_text(row)} is gone or has changed" for row in gone]
    changes += [f"{_row_text(row)} is new or changed" for row in new]
    if not changes:
        changes = [
            f"{field.name}: {getattr(then, field.name)!r:.100} is now {getattr(now, field.name)!r:.100}"
            for field in fields(Plan)
            if getattr(then, field.name) != getattr(now, field.name)
        ]
    return "; ".join(changes[:6]) + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")


def _row_text(row: Mapping[str, str | None]) -> str:
    return "(" + ", ".join(f"{key} {value}" for key, value in row.items()) + ")"


def _last_summary(entry: Entry) -> str:
    if entry.outcome is None:
        return "it ended before its outcome was written"
    return str(entry.outcome.get("summary", ""))[:120]
