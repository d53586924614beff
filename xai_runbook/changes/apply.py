"""`apply`: every refusal, then the intent, then the act, then what is observed, then the outcome."""

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
"""What must be free before anything begins: an intent holds a whole plan."""

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
    """The Outcome of carrying the plan out; the plan itself, and nothing done, where `confirm` is empty.

    `confirm` is the plan's `words`, typed by a person; `reason` is free text, such as an incident number; `digest` is
    what the plan's file said, where it came from one. Errors: Refused, with nothing done; JournalError, with nothing
    done, or, after acting, where the outcome could not be written (it then counts as unknown).
    """
    if plan.refused and confirm:
        raise Refused(plan.refused, on=f"environment {plan.environment}")
    if not plan.steps or not confirm:
        return plan
    if not isinstance(confirm, str):
        raise InputError("the confirmation must be text", hint="type the plan's confirmation")
    if not interactive.is_there():
        raise Refused(
            "no person can have typed the confirmation",
            on="a scheduled run, papermill or a pipe",
            hint="apply it in a terminal or in JupyterLab",
        )
    return _carry_out(plan, env, confirm, reason, digest or plan.digest, progress or progress_display())


def apply_headless(
    plan: Plan, env: Environment, *, digest: str, reason: str = "", progress: Progress | None = None
) -> Outcome | Plan:
    """As `apply` without a person: only for `additive` plans of changes that the settings allow by name (P2)."""
    if not plan.steps:
        return plan
    if interactive.notebook() is not None:
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
    """Raise what `apply` would refuse now whatever is typed, so that nobody types in vain.

    The target's lock is held only while this looks; `apply` looks again.
    Errors: Refused, JournalError, NotConfigured, CannotAsk.
    """
    case = _before_the_lock(plan, env, digest)
    with Lock(case.journal.folder, plan.parts):
        for refused in UNDER_THE_LOCK:
            if refused is not refuse_wrong_confirmation:
                refused(case)


def _before_the_lock(plan: Plan, env: Environment, digest: str, confirm: str = "") -> Case:
    """Raise what is refused before the target's lock is taken, and return what the other refusals look at."""
    case = Case(plan, digest, plan.digest, env, journal_of(env), confirm)
    for refused in BEFORE_THE_LOCK:
        refused(case)
    _require_room(case.journal)
    return case


def _carry_out(plan: Plan, env: Environment, confirm: str, reason: str, digest: str, progress: Progress) -> Outcome:
    if not isinstance(reason, str) or len(reason) > 2000:
        raise InputError("the reason must be text of at most 2000 characters", hint="an incident number, or a sentence")
    case = _before_the_lock(plan, env, digest, confirm)
    journal = case.journal
    with Lock(journal.folder, plan.parts) as lock:
        for refused in UNDER_THE_LOCK:
            refused(case)
        with write_access(), closing(StepRunner(env)) as runner:
            runner.open(plan.identity, plan.parts)

            def say(words: str) -> None:
                lock.report(words)
                with suppress(Exception):  # a terminal that was hung up must not end a change half way
                    progress(words)

            with DeferredInterrupt() as interrupt:
                entry = journal.append(
                    "intent",
                    digest=case.plan_digest,
                    target=target(plan),
                    reason=inert(reason),
                    environment=env.name,
                    plan=plan.to_json(),
                )
                return _run_steps(case, runner, entry, say, interrupt)


def _run_steps(case: Case, runner: StepRunner, entry: int, say: Progress, interrupt: DeferredInterrupt) -> Outcome:
    """Acts, looks, and records; whatever ends it before that leaves an intent alone, which counts as unknown."""
    plan, effects, words, ambiguous, left = case.plan, 0, "", False, False
    step: Step | None = None
    notices: list[str] = []
    try:
        for number, step in enumerate(plan.steps, 1):
            refuse_stopped(case)
            here = f"step {number} of {len(plan.steps)}"
            if interrupt.received:
                words = f"interrupted by Ctrl-C before {here}"
                break
            say(here)
            done: StepResult = runner.run(step, lambda told, here=here: say(f"{here}: {told}"), interrupt)  # type: ignore[misc]
            effects += done.had_effect
            notices += done.notices
            if not done.had_effect:
                words, left = f"{here}: {done.summary}", done.leftover
                break  # P10: the first error ends it
    except OutcomeUnknown as error:
        ambiguous, words = True, f"{here}: {error}"
    except Refused as error:
        words = str(error)
    came_about = False
    observed: list[Mapping[str, str | None]] = []
    if effects or ambiguous or left:
        say("checking the expected condition")
        # where something went wrong, one look tells what is so now
        came_about, observed = _observe(case, 0.0 if words else _settling_seconds(plan), interrupt)
    seen = leftovers(observed)
    if ambiguous and not (effects or came_about or seen) and _ends_with_its_process(step) and unchanged(case.env, plan):
        ambiguous = False
    status, summary = _judge(plan, effects, words, ambiguous, came_about)
    if left and status == "failed":
        summary = words
    if seen and status != "done":
        summary += f"; seen afterwards: {seen}"
    outcome = Outcome(
        status=status,
        entry=entry,
        summary=inert(summary, 600),
        observed=tuple(observed),
        notices=tuple(notices),
        interrupted=interrupt.received and status != "done",
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
    """Whether nothing of the step goes on anywhere once it has ended here."""
    return isinstance(step, Command) and not step.effects_survive_kill


def _judge(plan: Plan, effects: int, words: str, ambiguous: bool, came_about: bool) -> tuple[Status, str]:
    if came_about and effects == len(plan.steps):
        return "done", f"{plan.verb} {', '.join(plan.targets)}"
    if not effects and not ambiguous:
        return "failed", f"nothing was done: {words}"
    if came_about and ambiguous and effects == len(plan.steps) - 1:
        # the answer was lost, and what it was to bring about is seen: but seen is not caused
        return "unknown", f"{words}; the expected condition holds now"
    told = words or f"the expected condition did not hold within {_settling_seconds(plan):g} s"
    known = "are known to have taken effect" if ambiguous else "took effect"
    return "unknown", f"{effects} of {len(plan.steps)} steps {known}: {told}"


def _settling_seconds(plan: Plan) -> float:
    return duration_seconds(plan.expected.within) if plan.expected else 0.0


def _observe(case: Case, seconds: float, interrupt: DeferredInterrupt) -> tuple[bool, list[Mapping[str, str | None]]]:
    """Whether the expected condition came true in that time, and the rows last seen."""
    assert case.plan.expected is not None  # a plan with steps has one
    end = time.monotonic() + seconds
    rows: list[Mapping[str, str | None]] = []
    while True:
        with suppress(XaiRunbookError):
            told, rows = holds(case.env, case.plan.expected)
            if told:
                return True, rows
        if interrupt.received or time.monotonic() >= end:
            return False, rows
        time.sleep(POLL_SECONDS)


def _require_room(journal: Journal) -> None:
    """P15: where intent and outcome would not find room, nothing is begun, not even a lock."""
    try:
        with tempfile.TemporaryFile(dir=journal.folder) as room:
            os.posix_fallocate(room.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        raise JournalError(
            f"the journal cannot be written, so nothing was done: {error.strerror}",
            on=str(journal.folder),
            hint="free disk space and check the permissions of the folder",
        ) from None


def progress_display() -> Progress:
    """Progress for where this runs: one line that is rewritten, in a notebook or a terminal; none elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is not None:
        from IPython.display import HTML, display

        from xai_runbook.model.display.html_fragments import emphasis

        handle = display(HTML(emphasis("…")), display_id=True)
        return lambda words: handle.update(HTML(emphasis(words)))
    if sys.stderr is not None and sys.stderr.isatty():

        def line(words: str) -> None:
            sys.stderr.write(f"\r\x1b[K{words[:150]}")
            sys.stderr.flush()

        return line
    return lambda _: None
