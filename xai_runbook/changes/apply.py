"""Apply a plan: check it, write the intent to the journal, run its steps, check the result, write the outcome."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from xai_runbook.changes.interrupts import DeferredInterrupt
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.journals import journal_of
from xai_runbook.changes.preflight import (
    BEFORE_THE_LOCK,
    UNDER_THE_LOCK,
    Case,
    holds,
    leftovers,
    refuse_stopped,
    refuse_wrong_confirmation,
    target,
    unchanged,
)
from xai_runbook.changes.steps.execute import StepRunner
from xai_runbook.changes.steps.result import OutcomeUnknown, StepResult
from xai_runbook.changes.target_lock import Lock
from xai_runbook.errors import InputError, JournalError, Refused, XaiRunbookError, inert
from xai_runbook.model.outcome import Outcome, Status
from xai_runbook.model.plans import Command, Plan, Risk, Step
from xai_runbook.model.secret import write_access
from xai_runbook.model.window import duration_seconds
from xai_runbook.system import interactive

if TYPE_CHECKING:
    from xai_runbook.environment import Environment

POLL_SECONDS = 0.05
ROOM_BYTES = 2**20
"""Free disk space that the journal must have before a change begins: an intent holds a whole plan."""

Progress = Callable[[str], None]


def apply(
    plan: Plan,
    env: Environment,
    *,
    confirm: str = "",
    reason: str = "",
    digest: str = "",
    progress: Progress | None = None,
) -> Outcome | Plan:
    """Apply the plan and return its Outcome; with an empty `confirm`, do nothing and return the plan.

    `confirm` is the plan's `confirmation`, typed by a person; `reason` is free text, such as an incident number;
    `digest` is the one in the plan's file, if the plan was read from one.
    Errors: Refused (nothing was done); JournalError (nothing was done, or the outcome could not be written after the
    steps, and counts as unknown).
    """
    if plan.refused and confirm:
        raise Refused(plan.refused, on=f"environment {plan.environment}")
    if not plan.steps or not confirm:
        return plan
    if not isinstance(confirm, str):
        raise InputError("the confirmation must be text", hint="type the plan's confirmation")
    if not interactive.is_interactive():
        raise Refused(
            "no person can have typed the confirmation",
            on="a scheduled run, papermill or a pipe",
            hint="apply it in a terminal or in JupyterLab",
        )
    return _carry_out(plan, env, confirm, reason, digest or plan.digest, progress or progress_display())


def apply_headless(
    plan: Plan, env: Environment, *, digest: str, reason: str = "", progress: Progress | None = None
) -> Outcome | Plan:
    """Apply without a person: only `additive` plans of changes that the settings allow by name (P2)."""
    if not plan.steps:
        return plan
    if interactive.notebook_kernel() is not None:
        raise Refused("a notebook cannot apply a plan without a person", on=plan.verb, hint="xai-runbook apply FILE")
    if plan.risk is not Risk.ADDITIVE:
        raise Refused(f"a plan of risk {plan.risk} needs a person", on=plan.verb, hint="type the confirmation yourself")
    if plan.change not in env.settings.changes.headless:
        raise Refused(
            "the settings do not allow this change without a person",
            on=plan.change,
            hint="add it to changes.headless in the settings",
        )
    return _carry_out(plan, env, plan.confirmation, reason, digest, progress or (lambda _: None))


def preflight(plan: Plan, env: Environment, *, digest: str) -> None:
    """Raise what `apply` would raise now even with the right confirmation, before a person is asked to type it.

    The target's lock is held only during these checks; `apply` repeats them.
    Errors: Refused, JournalError, NotConfigured, CannotAsk.
    """
    case = _before_the_lock(plan, env, digest)
    with Lock(case.journal.folder, plan.parts):
        for refuse in UNDER_THE_LOCK:
            if refuse is not refuse_wrong_confirmation:
                refuse(case)


def _before_the_lock(plan: Plan, env: Environment, digest: str, confirm: str = "") -> Case:
    """Run the checks that do not need the target's lock, and return the input of the others."""
    case = Case(plan, digest, plan.digest, env, journal_of(env), confirm)
    for refuse in BEFORE_THE_LOCK:
        refuse(case)
    _require_room(case.journal)
    return case


def _carry_out(plan: Plan, env: Environment, confirm: str, reason: str, digest: str, progress: Progress) -> Outcome:
    """Run all checks, write the intent under the target's lock, then run the steps."""
    if not isinstance(reason, str) or len(reason) > 2000:
        raise InputError("the reason must be text of at most 2000 characters", hint="an incident number, or a sentence")
    case = _before_the_lock(plan, env, digest, confirm)
    journal = case.journal
    with Lock(journal.folder, plan.parts) as lock:
        for refuse in UNDER_THE_LOCK:
            refuse(case)
        with write_access(), closing(StepRunner(env)) as runner:
            runner.open(plan.identity, plan.parts)

            def report(message: str) -> None:
                lock.report(message)
                with suppress(Exception):  # a terminal that was closed must not end a change half way
                    progress(message)

            with DeferredInterrupt() as interrupt:
                entry = journal.append(
                    "intent",
                    digest=case.plan_digest,
                    target=target(plan),
                    reason=inert(reason),
                    environment=env.name,
                    plan=plan.to_json(),
                )
                return _run_steps(case, runner, entry, report, interrupt)


def _run_steps(case: Case, runner: StepRunner, entry: int, report: Progress, interrupt: DeferredInterrupt) -> Outcome:
    """Run the steps, check the expected condition and write the outcome.

    If this process ends before the outcome is written, the intent is left alone in the journal and counts as unknown.
    """
    plan, effects, problem, ambiguous, leftover = case.plan, 0, "", False, False
    step: Step | None = None
    notices: list[str] = []
    try:
        for number, step in enumerate(plan.steps, 1):
            refuse_stopped(case)
            label = f"step {number} of {len(plan.steps)}"
            if interrupt.received:
                problem = f"interrupted by {interrupt.received} before {label}"
                break
            report(label)
            result: StepResult = runner.run(
                step,
                lambda message, label=label: report(f"{label}: {message}"),  # type: ignore[misc]
                interrupt,
            )
            effects += result.had_effect
            notices += result.notices
            if not result.had_effect:
                problem, leftover = f"{label}: {result.summary}", result.leftover
                break  # P10: the first error ends it
    except OutcomeUnknown as error:
        ambiguous, problem = True, f"{label}: {error}"
    except Refused as error:
        problem = str(error)
    fulfilled = False
    observed: list[Mapping[str, str | None]] = []
    if effects or ambiguous or leftover:
        report("checking the expected condition")
        # after a problem there is nothing to wait for: the present state is enough
        fulfilled, observed = _observe(case, 0.0 if problem else _settling_seconds(plan), interrupt)
    left = leftovers(observed)
    if ambiguous and not (effects or fulfilled or left) and _ends_with_its_process(step) and unchanged(case.env, plan):
        ambiguous = False
    status, summary = _judge(plan, effects, problem, ambiguous, fulfilled)
    if leftover and status == "failed":
        summary = problem
    if left and status != "done":
        summary += f"; seen afterwards: {left}"
    outcome = Outcome(
        status=status,
        entry=entry,
        summary=inert(summary, 600),
        observed=tuple(observed),
        notices=tuple(notices),
        interrupted=bool(interrupt.received) and status != "done",
        undo_hint=inert(plan.undo) if isinstance(plan.undo, str) else f"xai-runbook undo {entry}",
    )
    try:
        case.journal.append("outcome", **outcome.to_json())
    except JournalError as error:
        raise JournalError(
            f"the plan was carried out, but its outcome could not be written: {outcome.summary}",
            on=error.on,
            hint=f"free disk space, then xai-runbook journal reconcile {entry}",
        ) from None
    return outcome


def _ends_with_its_process(step: Step | None) -> bool:
    """Return whether nothing of the step can continue after its process has ended."""
    return isinstance(step, Command) and not step.effects_survive_kill


def _judge(plan: Plan, effects: int, problem: str, ambiguous: bool, fulfilled: bool) -> tuple[Status, str]:
    """Return status and summary of the outcome."""
    if fulfilled and effects == len(plan.steps):
        return "done", f"{plan.verb} {', '.join(plan.targets)}"
    if not effects and not ambiguous:
        return "failed", f"nothing was done: {problem}"
    if fulfilled and ambiguous and effects == len(plan.steps) - 1:
        # the answer was lost: the condition holds, but something else may have caused it
        return "unknown", f"{problem}; the expected condition holds now"
    reason = problem or f"the expected condition did not hold within {_settling_seconds(plan):g} s"
    known = "are known to have taken effect" if ambiguous else "took effect"
    return "unknown", f"{effects} of {len(plan.steps)} steps {known}: {reason}"


def _settling_seconds(plan: Plan) -> float:
    return duration_seconds(plan.expected.within) if plan.expected else 0.0


def _observe(case: Case, seconds: float, interrupt: DeferredInterrupt) -> tuple[bool, list[Mapping[str, str | None]]]:
    """Return whether the expected condition came true within `seconds`, and the rows last seen."""
    assert case.plan.expected is not None  # a plan with steps has one
    end = time.monotonic() + seconds
    rows: list[Mapping[str, str | None]] = []
    while True:
        with suppress(XaiRunbookError):
            fulfilled, rows = holds(case.env, case.plan.expected)
            if fulfilled:
                return True, rows
        if interrupt.received or time.monotonic() >= end:
            return False, rows
        time.sleep(POLL_SECONDS)


def _require_room(journal: Journal) -> None:
    """Raise JournalError unless the journal's disk has room for intent and outcome (P15)."""
    try:
        with tempfile.TemporaryFile(dir=journal.folder) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        raise JournalError(
            f"the journal cannot be written, so nothing was done: {error.strerror}",
            on=str(journal.folder),
            hint="free disk space and check the permissions of the folder",
        ) from None


def progress_display() -> Progress:
    """Return a progress function: one rewritten line in a notebook or a terminal, nothing elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is not None:
        from IPython.display import HTML, display

        from xai_runbook.model.display.html_fragments import emphasis

        handle = display(HTML(emphasis("…")), display_id=True)
        return lambda message: handle.update(HTML(emphasis(message)))
    if sys.stderr is not None and sys.stderr.isatty():

        def rewrite_line(message: str) -> None:
            sys.stderr.write(f"\r\x1b[K{message[:150]}")
            sys.stderr.flush()

        return rewrite_line
    return lambda _: None
