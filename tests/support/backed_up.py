"""A server of a test's own with its folder of backups, and plans carried out through the door as a person would."""

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
from xai_runbook.changes.credentials import lent
from xai_runbook.environment import Environment
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import Plan
from xai_runbook.model.secret import write_access
from xai_runbook.sandbox.components import backups, postgres
from xai_runbook.settings import loading

HEADLESS = ["backups.dump", "backups.verify", "backups.base_backup", "backups.low_level_backup"]
HEADLESS += ["backups.recover_to"]


def environment(server: Server, journal: Path, *, dbname: str = "", **more: Any) -> Environment:
    """The environment of that server, of another database of it; `more` are keys of its table of backups."""
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
    """Leaves a few rows of everything: what is tested here does not get truer with more."""
    with server.superuser() as session:
        session.execute("CREATE TABLE kept AS SELECT * FROM wallets ORDER BY address LIMIT 200")
        session.execute("TRUNCATE wallets CASCADE")
        session.execute("INSERT INTO wallets SELECT * FROM kept")
        session.execute("DROP TABLE kept")


def done(env: Environment, plan: Plan) -> Outcome:
    """The outcome of a plan that needs no person."""
    outcome = apply_headless(plan, env, digest=plan.digest)
    assert isinstance(outcome, Outcome), outcome
    return outcome


@contextmanager
def a_person(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal on standard input, as where somebody types."""
    typing, slave = os.openpty()
    with os.fdopen(slave) as stdin, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        yield
    os.close(typing)


def typed(
    env: Environment, plan: Plan, monkeypatch: pytest.MonkeyPatch, progress: Callable[[str], None] | None = None
) -> Outcome:
    """The outcome of a plan whose words a person typed."""
    with a_person(monkeypatch):
        outcome = apply(plan, env, confirm=plan.confirmation, progress=progress)
    assert isinstance(outcome, Outcome), outcome
    return outcome


@contextmanager
def doer(env: Environment, plan: Plan, *before: str) -> Iterator[subprocess.Popen[str]]:
    """The plan's first step as a process of its own, behind the words of `before`; ended afterwards."""
    (step, *_) = plan.steps
    assert step.kind == "command"
    # where a guard's test is run apart, the step runs the copy without the guard too
    copy = {name: os.environ[name] for name in ("PYTHONPATH", "PYTHONSAFEPATH") if name in os.environ}
    with write_access(), lent(step.roles, env.settings) as variables:
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


def said(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str]:
    """How the process ended, and what it said."""
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output
