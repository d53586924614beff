"""How an SQL statement acts: progress is reported meanwhile, Ctrl-C cancels it, the server's answer decides."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from xai_runbook.changes.interrupts import DeferredInterrupt
from xai_runbook.changes.steps.result import OutcomeUnknown, StepResult
from xai_runbook.errors import CannotAsk, XaiRunbookError, inert
from xai_runbook.model.steps import Sql

if TYPE_CHECKING:
    from xai_runbook.clients.postgres.operator import Operator
    from xai_runbook.clients.postgres.reader import Database

REJECTED_CLASSES = ("0A", "25", "3D", "3F", "42")
"""Classes of SQLSTATE that come of reading the statement and of asking who may: not supported, in such a transaction,
no such database or schema, syntax and access rules. By then nothing has been done."""
PROGRESS_SECONDS = 1.0
MOST_NOTICES = 60


def run_statement(
    step: Sql, operator: Operator, database: Database, progress: Callable[[str], None], interrupt: DeferredInterrupt
) -> StepResult:
    """What the statement came to. Errors: OutcomeUnknown."""
    over = threading.Event()
    if step.progress:
        arguments = (step.progress, operator.pid, database, progress, over)
        threading.Thread(target=_report_progress, args=arguments, daemon=True).start()
    try:
        # a short one's answer is waited for: cancelling it would only leave open what it did
        answer = operator.execute(
            step, on_notice=progress, keep_running=lambda: not (step.seconds and interrupt.received)
        )
    except CannotAsk as error:
        raise OutcomeUnknown(f"the connection was lost during the statement: {error.what}", on=error.on) from None
    finally:
        over.set()
    notices = answer.notices[:MOST_NOTICES]
    if len(answer.notices) > MOST_NOTICES:
        notices += (f"and {len(answer.notices) - MOST_NOTICES} more",)
    if answer.error is not None:
        words = f"interrupted by Ctrl-C: {answer.error}" if interrupt.received else str(answer.error)
        if step.atomic or not answer.sent or answer.sqlstate[:2] in REJECTED_CLASSES:
            return StepResult(False, words, notices)
        raise OutcomeUnknown(f"the statement failed part-way, and its effect is unknown: {words}", on=operator.address)
    if answer.rows is not None and (len(answer.rows) != 1 or answer.rows[0].get("done") is not True):
        return StepResult(False, "the server found its target changed, and did nothing", notices)
    if answer.rows is None and answer.skipped:
        return StepResult(False, "the server skipped it, because another session has locked it", notices)
    return StepResult(True, "done", notices)


def _report_progress(
    query: str, pid: int, database: Database, progress: Callable[[str], None], over: threading.Event
) -> None:
    """Until it is over; that it cannot be told how far it is, is no reason to end it."""
    while not over.wait(PROGRESS_SECONDS):
        with suppress(XaiRunbookError):
            for row in database.rows(query, {"pid": pid}):
                if not over.is_set():
                    progress(inert(str(row["description"]), 200))
