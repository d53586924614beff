"""How an SQL statement acts: it reports progress, Ctrl-C cancels it, and the server's answer decides the result."""

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
"""SQLSTATE classes of errors before a statement runs: feature not supported, invalid transaction state, no such
database, no such schema, syntax error or access rule violation."""
PROGRESS_SECONDS = 1.0
MOST_NOTICES = 60


def run_statement(
    step: Sql, operator: Operator, database: Database, progress: Callable[[str], None], interrupt: DeferredInterrupt
) -> StepResult:
    """Run the statement and return the result. Errors: OutcomeUnknown."""
    ended = threading.Event()
    if step.progress:
        arguments = (step.progress, operator.pid, database, progress, ended)
        threading.Thread(target=_report_progress, args=arguments, daemon=True).start()
    try:
        # a short statement is not cancelled: that would only make its effect unknown
        answer = operator.execute(
            step, on_notice=progress, keep_running=lambda: not (step.seconds and interrupt.received)
        )
    except CannotAsk as error:
        raise OutcomeUnknown(f"the connection was lost during the statement: {error.what}", on=error.on) from None
    finally:
        ended.set()
    notices = answer.notices[:MOST_NOTICES]
    if len(answer.notices) > MOST_NOTICES:
        notices += (f"and {len(answer.notices) - MOST_NOTICES} more",)
    if answer.error is not None:
        message = f"interrupted by {interrupt.received}: {answer.error}" if interrupt.received else str(answer.error)
        if step.atomic or not answer.sent or answer.sqlstate[:2] in REJECTED_CLASSES:
            return StepResult(False, message, notices)
        raise OutcomeUnknown(
            f"the statement failed part-way, and its effect is unknown: {message}", on=operator.address
        )
    if answer.rows is not None and (len(answer.rows) != 1 or answer.rows[0].get("done") is not True):
        return StepResult(False, "the server found its target changed, and did nothing", notices)
    if answer.rows is None and answer.skipped:
        return StepResult(False, "the server skipped it, because another session has locked it", notices)
    return StepResult(True, "done", notices)


def _report_progress(
    query: str, pid: int, database: Database, progress: Callable[[str], None], ended: threading.Event
) -> None:
    """Poll the progress query until the statement ends. Polling errors are ignored."""
    while not ended.wait(PROGRESS_SECONDS):
        with suppress(XaiRunbookError):
            for row in database.rows(query, {"pid": pid}):
                if not ended.is_set():
                    progress(inert(str(row["description"]), 200))
