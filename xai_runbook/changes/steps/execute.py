"""How steps are run. A returned result is certain; OutcomeUnknown means that the effect is not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING

from xai_runbook.changes.credentials import role_environment
from xai_runbook.changes.interrupts import DeferredInterrupt
from xai_runbook.changes.steps.edit import run_edit
from xai_runbook.changes.steps.http import RequestSender
from xai_runbook.changes.steps.result import OutcomeUnknown, StepResult
from xai_runbook.changes.steps.sql import run_statement
from xai_runbook.changes.target_lock import lock_in_server
from xai_runbook.errors import Refused, inert
from xai_runbook.model.parts import Parts, server_name
from xai_runbook.model.plans import Command, Edit, HttpCall, Sql, Step
from xai_runbook.model.window import duration_seconds
from xai_runbook.system import child, processes
from xai_runbook.system.parent_death import PARENT_VARIABLE

if TYPE_CHECKING:
    from xai_runbook.clients.postgres.operator import Operator
    from xai_runbook.environment import Environment


EXIT_UNKNOWN = 3
"""Exit code of a program whose effect is unknown."""

EXIT_LEFTOVER = 4
"""Exit code of a program that failed and left something behind."""


class StepRunner:
    """The runner of a plan's steps; it holds the write credentials for the time of one apply, after the last check."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._database: Operator | None = None
        self._requests = RequestSender(env)

    def open(self, plan_identity: Mapping[str, str], parts: Parts) -> None:
        """Connect to the servers that the plan names, and take the database's own locks of these parts.

        Errors: Refused, CannotAsk, NotConfigured.
        """
        self._requests.open(plan_identity)
        if not any(key.startswith("database.") for key in plan_identity):
            return
        self._database = self._env.operator()
        now = {f"database.{key}": value for key, value in self._database.identity().items()}
        wrong = sorted(key for key in now if key in plan_identity and plan_identity[key] != now[key])
        if wrong:
            raise Refused(
                f"the operator connects to another server or database: {wrong[0]} is {now[wrong[0]]}",
                on=self._database.address,
                hint="database.operator in the settings",
            )
        lock_in_server(self._database, parts, server_name(plan_identity))

    def close(self) -> None:
        """Close the session, which frees its locks."""
        if self._database is not None:
            self._database.close()

    def run(self, step: Step, progress: Callable[[str], None], interrupt: DeferredInterrupt) -> StepResult:
        """Run one step; Ctrl-C stops a program and cancels a statement. Errors: OutcomeUnknown."""
        if isinstance(step, HttpCall):
            return self._requests.send(step)
        if isinstance(step, Edit):
            return run_edit(step)
        if not isinstance(step, Sql):
            with role_environment(step.roles, self._env.settings) as variables:
                return _run_program(step, variables, progress, interrupt)
        if self._database is None:
            return StepResult(False, "the plan names no database")
        return run_statement(step, self._database, self._env.database, progress, interrupt)


def _run_program(
    step: Command, variables: Mapping[str, str], progress: Callable[[str], None], interrupt: DeferredInterrupt
) -> StepResult:
    """Run a program in its own process group, which ends with it, by deadline, by Ctrl-C or with this process.

    A program that was killed by a signal may have left anything. Errors: OutcomeUnknown.
    """
    deadline = time.monotonic() + duration_seconds(step.seconds)
    argv = [*child.python_argv(), *step.argv[1:]] if step.argv[0] == "python" else list(step.argv)
    try:
        process = processes.start(
            argv,
            # the program checks that its parent is alive before it begins
            env={**child.environment(), **variables, **step.environment, PARENT_VARIABLE: str(os.getpid())},
            cwd=child.NEUTRAL_FOLDER,
            stdout="pipe",
            stderr="stdout",
            own_group=True,
        )
    except OSError as error:
        return StepResult(False, f"{argv[0]} could not be started: {error.strerror}")
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    last_line, reason = "", ""
    try:
        while process.poll() is None and not reason:
            if time.monotonic() > deadline:
                reason = f"it did not end within {step.seconds} and was stopped"
            elif interrupt.received:
                reason = f"interrupted by {interrupt.received} and stopped"
            else:
                last_line = _read_output(process.stdout, progress) or last_line
                time.sleep(0.1)
    finally:
        processes.end(process, grace_seconds=5, group=True)
        with process.stdout:  # the output while it ends matters most
            last_line = _read_output(process.stdout, progress) or last_line
    if process.returncode == 0:  # also if it ended just before it was to be stopped
        return StepResult(True, last_line or "done")
    message = "; ".join(part for part in (reason, last_line) if part)
    if process.returncode is None:
        raise OutcomeUnknown(f"{message}; it could not be killed")
    if process.returncode < 0:
        raise OutcomeUnknown(
            message if reason else f"it was killed by signal {-process.returncode}; {last_line}".rstrip("; ")
        )
    if process.returncode == EXIT_UNKNOWN:
        raise OutcomeUnknown(message or "its outcome is unknown")
    if process.returncode == EXIT_LEFTOVER:
        return StepResult(False, message, leftover=True)
    return StepResult(False, message if reason else f"it ended with exit code {process.returncode}: {last_line}")


def _read_output(output: IO[bytes], progress: Callable[[str], None]) -> str:
    """Report the last line of new output as progress and return it; empty if there is none."""
    try:
        lines = os.read(output.fileno(), 2**20).decode(errors="replace").splitlines()
    except BlockingIOError:
        return ""
    if not lines:
        return ""
    last = inert(lines[-1], 200)
    progress(last)
    return last
