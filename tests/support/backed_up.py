"""A server of a test's own with its backup folder, and functions that apply plans as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres_server import Server
from xai_runbook import apply
from xai_runbook.changes.apply import apply_headless
from xai_runbook.changes.credentials import role_environment
from xai_runbook.environment import Environment
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import Plan
from xai_runbook.model.secret import write_access
from xai_runbook.sandbox.components import backups, postgres
from xai_runbook.settings import loading

HEADLESS = ["backups.dump", "backups.verify", "backups.base_backup", "backups.low_level_backup"]
HEADLESS += ["backups.recover_to"]


def environment(server: Server, journal: Path, *, dbname: str = "", **more: Any) -> Environment:
    """Return the environment of that server, or of another of its databases; `more` are keys of the `backups` table."""
    settings = loading.load("sandbox").model_dump()
    other = {"dbname": dbname} if dbname else {}
    tables = {
        "database": settings["database"] | postgres.overlay(server.layout) | {"timeout": "20s"} | other,
        "backups": backups.overlay(server.layout) | more,
        "changes": {"headless": HEADLESS},
        "outputs": settings["outputs"] | {"journal": str(journal)},
    }
    return Environment(type(loading.load("sandbox")).model_validate({**settings, **tables}))


def smaller(server: Server) -> None:
    """Leave only a few rows in every table, which makes backups fast."""
    with server.superuser() as session:
        session.execute("CREATE TABLE kept AS SELECT * FROM wallets ORDER BY address LIMIT 200")
        session.execute("TRUNCATE wallets CASCADE")
        session.execute("INSERT INTO wallets SELECT * FROM kept")
        session.execute("DROP TABLE kept")


def done(env: Environment, plan: Plan) -> Outcome:
    """Apply a plan headless and return its outcome."""
    outcome = apply_headless(plan, env, digest=plan.digest)
    assert isinstance(outcome, Outcome), outcome
    return outcome


@contextmanager
def a_person(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make standard input a terminal, as if somebody could type."""
    typing, slave = os.openpty()
    with os.fdopen(slave) as stdin, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        yield
    os.close(typing)


def typed(
    env: Environment, plan: Plan, monkeypatch: pytest.MonkeyPatch, progress: Callable[[str], None] | None = None
) -> Outcome:
    """Apply a plan that somebody confirms by typing, and return its outcome."""
    with a_person(monkeypatch):
        outcome = apply(plan, env, confirm=plan.confirmation, progress=progress)
    assert isinstance(outcome, Outcome), outcome
    return outcome


@contextmanager
def step_process(env: Environment, plan: Plan, *before: str) -> Iterator[subprocess.Popen[str]]:
    """Run the plan's first step as a process of its own, prefixed by the command `before`; kill it afterwards."""
    (step, *_) = plan.steps
    assert step.kind == "command"
    # when a guard's test runs separately, the step must also run the copy without the guard
    copy = {name: os.environ[name] for name in ("PYTHONPATH", "PYTHONSAFEPATH") if name in os.environ}
    with write_access(), role_environment(step.roles, env.settings) as variables:
        process = subprocess.Popen(
            [*before, sys.executable, *step.argv[1:]],
            env={"PATH": os.environ["PATH"], **copy, **variables, **step.environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()


def result_of(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    """Wait for the process to end; return its exit code and output."""
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output
