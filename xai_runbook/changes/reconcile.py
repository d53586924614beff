"""Find out what a change of unknown outcome did, which frees its target; plan the undo of a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Literal

from xai_runbook.changes import registry
from xai_runbook.changes.journal import Entry, Journal
from xai_runbook.changes.journals import journal_of
from xai_runbook.changes.preflight import holds, leftovers, skip_if_fulfilled
from xai_runbook.changes.steps.execute import StepRunner
from xai_runbook.changes.target_lock import Lock
from xai_runbook.errors import CannotAsk, InputError, NotConfigured, Refused, XaiRunbookError, inert
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.parts import database_part
from xai_runbook.model.plans import Call, Command, Plan
from xai_runbook.model.secret import write_access
from xai_runbook.model.steps import operation_name
from xai_runbook.model.units import quantity
from xai_runbook.operations.backups.leftovers import (
    invalid_indexes,
    leftover_databases,
    leftover_files,
    remove_leftovers,
)
from xai_runbook.operations.database.maintenance import drop_invalid_indexes
from xai_runbook.system import interactive

if TYPE_CHECKING:
    from xai_runbook.environment import Environment


def entry_of(journal: Journal, number: int) -> Entry:
    """Return the entry of that number. Errors: InputError if there is none."""
    for entry in journal.entries():
        if entry.number == number:
            return entry
    raise InputError(f"the journal has no entry {number}", on=str(journal.path), hint="xai-runbook journal list")


def reconcile(env: Environment, number: int, *, status: Literal["done", "failed", ""] = "", why: str = "") -> Outcome:
    """Find the outcome of an entry of unknown outcome, record it if it can be found, and return it.

    `failed` if the same plan can be made again: the system is as before, so the change had no effect. Else `done` if
    the expected condition holds now, and still `unknown` if not, until a person gives the `status` and the reason
    (`why`).
    Errors: InputError; Refused if it is still being applied, belongs to another environment, or a status comes from no
    person.
    """
    journal = journal_of(env)
    entry = entry_of(journal, number)
    if entry.status != "unknown":
        raise InputError(
            f"the outcome of entry {number} is known: {entry.status}", on=str(journal.path), hint="nothing to reconcile"
        )
    if status and not why.strip():
        raise InputError("a status given by a person needs a reason", hint="--why TEXT")
    if status and not interactive.is_interactive():
        raise Refused("a status can be given by a person only", on="a script or a pipe", hint="run it in a terminal")
    plan = Plan.from_json(entry.intent["plan"])
    if plan.environment != env.name:
        raise Refused(f"entry {number} belongs to environment {plan.environment!r}", on=env.name, hint="--env")
    # nothing may change the target meanwhile, and the apply that left the entry must have ended
    with Lock(journal.folder, plan.parts) as lock:
        lock.report(f"reconciling entry {number}")
        found, summary, rows = (status, f"according to a person: {why}", ()) if status else _inspect(env, plan)
        outcome = Outcome(status=found or "unknown", entry=number, summary=inert(summary, 600), observed=tuple(rows))
        if found:
            journal.append("reconciled", **outcome.to_json())
    return outcome


def _inspect(
    env: Environment, plan: Plan
) -> tuple[Literal["done", "failed", ""], str, Sequence[Mapping[str, str | None]]]:
    """Return what became of the plan (empty if unknown), a summary, and the rows of its expected condition."""
    assert plan.expected is not None  # a plan with steps has one
    try:
        with write_access(), closing(StepRunner(env)) as runner:
            # the lock in the server: while the session that acted holds it, its statement may still take effect
            runner.open(_stable_identity(plan), plan.parts)
            fulfilled, rows = holds(env, plan.expected)
    except (CannotAsk, NotConfigured) as error:
        return "", f"the current state is unknown: {error}", ()
    try:
        again = registry.make_plan(env, plan.change, plan.arguments)
        unchanged = again.comparable == plan.comparable
        reason = "the system has changed since the plan was made"
        if again.refused:
            reason = f"the same change is refused now: {again.refused}"
    except XaiRunbookError as error:
        unchanged, reason = False, f"the same change cannot be planned now: {error}"
    if unchanged:  # first: the condition may have held before, and what a program does ends with it
        left = _leftover_note(env, plan) or ", so it had no lasting effect"
        return "failed", f"the same plan can be made again{left}", rows
    if fulfilled:
        return "done", "the expected condition holds now", rows
    seen, left = leftovers(rows), _leftover_note(env, plan)
    if seen and all(isinstance(step, Command) and not step.effects_survive_kill for step in plan.steps):
        return "failed", f"the expected condition does not hold; {seen}{left}", rows
    return "", f"the expected condition does not hold, and {reason}{left}", rows


def _leftover_note(env: Environment, plan: Plan) -> str:
    """Return what interrupted steps of this plan left behind, with sizes and the change that removes it, or nothing."""
    notes = []
    for part, steps, query, remedy in _LEFTOVER_QUERIES:
        if any(key.startswith(f"{part}.") for key in plan.identity) and any(
            (step.name if step.kind == "sql" else step.kind) in steps for step in plan.steps
        ):
            with suppress(XaiRunbookError):
                rows = registry.run_query(env, operation_name(query), {})
                names = [f"{row['name']} ({quantity(float(row['size_bytes']), 'bytes')})" for _, row in rows.iterrows()]
                notes += [f"{', '.join(names[:5])}: xai-runbook plan {operation_name(remedy)}"] if names else []
    return f"; left behind: {'; '.join(notes)}" if notes else ""


_LEFTOVER_QUERIES = (
    ("database", ("command",), leftover_databases, remove_leftovers),
    ("backups", ("command",), leftover_files, remove_leftovers),
    ("database", ("create_index", "reindex_index"), invalid_indexes, drop_invalid_indexes),
)
"""Columns: part, steps (kinds or statements), the query that finds what they leave, the change that removes it."""


def _stable_identity(plan: Plan) -> dict[str, str]:
    """Return the part of the plan's identity that its steps do not change: a replaced database has another oid."""
    replaces = plan.parts.get(database_part(plan.identity)) == "exclusive"
    return {key: value for key, value in plan.identity.items() if not (replaces and key == "database.database_oid")}


def undo(env: Environment, number: int) -> Plan:
    """Return the Plan that undoes an entry. Errors: Refused if there is none, with the plan's reason."""
    entry = entry_of(journal_of(env), number)
    plan = Plan.from_json(entry.intent["plan"])
    if not isinstance(plan.undo, Call):
        raise Refused(f"there is no plan to undo it: {plan.undo}", on=f"journal entry {number}")
    return skip_if_fulfilled(env, registry.make_plan(env, plan.undo.change, plan.undo.arguments))
