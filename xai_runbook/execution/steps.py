"""How each kind of step acts. What it returns is known; what it raises as Ambiguous is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import CannotAsk, Refused, XaiRunbookError, inert
from xai_runbook.plans import Command, Sql, Step
from xai_runbook.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook.clients.operator import Operator
    from xai_runbook.environment import Environment


@dataclass(frozen=True)
class Done:
    """What one step came to: `had_effect` False is known to have changed nothing that lasts."""

    had_effect: bool
    words: str


class Ambiguous(XaiRunbookError):
    """The step was sent off, and what it did cannot be told. It is never sent again (P17)."""


class Actor:
    """Holds the write credentials for the time of one apply, from after the last refusal on."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._database: Operator | None = None

    def open(self, plan_identity: dict[str, str], lock_key: int) -> None:
        """Connects where the steps need it, and takes the server's own lock. Errors: Refused, CannotAsk."""
        if not any(key.startswith("database.") for key in plan_identity):
            return
        self._database = self._env.operator()
        now = {f"database.{key}": value for key, value in self._database.identity().items()}
        wrong = sorted(key for key in now if key in plan_identity and plan_identity[key] != now[key])
        if wrong:
            raise Refused(
                f"the operator reaches another server: {wrong[0]} is {now[wrong[0]]}",
                on=self._database.address,
                hint="database.operator in the settings",
            )
        # P14: those who do not share our journal folder meet here; the server lets go when the session ends
        (row,) = self._database.rows("take_advisory_lock", {"key": lock_key})
        if not row["taken"]:
            raise Refused(
                "the target is locked by another apply, seen in the database itself",
                on=self._database.address,
                hint="wait until it is through",
            )

    def close(self) -> None:
        """Lets go of everything."""
        if self._database is not None:
            self._database.close()

    def act(self, step: Step, said: Callable[[str], None]) -> Done:
        """Does one step. Errors: Ambiguous, KeyboardInterrupt (nothing of the step runs on)."""
        return self._statement(step) if isinstance(step, Sql) else _program(step, said)

    def _statement(self, step: Sql) -> Done:
        if self._database is None:
            return Done(False, "the plan names no database")
        from xai_runbook.errors import AccessDenied, BadAnswer

        try:
            rows = self._database.rows(step.name, step.parameters)
        except (AccessDenied, BadAnswer) as error:
            # the server itself refused the single statement: it had no effect
            return Done(False, str(error))
        except CannotAsk as error:
            raise Ambiguous(f"the connection was lost while it acted: {error.what}", on=error.on) from None
        if len(rows) != 1 or rows[0].get("done") is not True:
            return Done(False, "the server found that the world had moved, and did nothing")
        return Done(True, "done")


def _program(step: Command, said: Callable[[str], None]) -> Done:
    """Runs it in a process group of its own, which ends with this, by deadline, Ctrl-C or death."""
    limit = time.monotonic() + duration_seconds(step.seconds)
    argv = [sys.executable, *step.argv[1:]] if step.argv[0] == "python" else list(step.argv)
    try:
        process = subprocess.Popen(
            argv,
            env={**_plain_environment(), **step.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return Done(False, f"{argv[0]} could not be started: {error.strerror}")
    last = ""
    try:
        os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
        while process.poll() is None:
            if time.monotonic() > limit:
                return Done(False, f"it did not end within {step.seconds} and was ended")
            last = _heard(process, said) or last
            time.sleep(0.1)
        last = _heard(process, said) or last
    finally:
        _end(process)
    if process.returncode:
        return Done(False, inert(f"it ended with exit code {process.returncode}: {last}", 300))
    return Done(True, inert(last, 300) or "done")


def _heard(process: subprocess.Popen[str], said: Callable[[str], None]) -> str:
    try:
        lines = (process.stdout.read() or "").splitlines() if process.stdout else []
    except (OSError, TypeError):  # nothing to read yet
        return ""
    if lines:
        said(inert(lines[-1], 200))
        return lines[-1]
    return ""


def _end(process: subprocess.Popen[str]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with suppress(OSError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)  # its children, where it ended before them
    if process.stdout:
        process.stdout.close()


def _plain_environment() -> dict[str, Any]:
    """What a program needs to run, and no secret of ours (P21)."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "PYTHONPATH") if name in os.environ}
