"""Signals in the middle of a change end in a known outcome."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.changing import Session, lives
from tests.support.started import eventually
from tests.support.typed import Typed
from xai_runbook import apply
from xai_runbook.changes.interrupts import DeferredInterrupt
from xai_runbook.changes.journal import Journal
from xai_runbook.environment import Environment
from xai_runbook.model.outcome import Outcome
from xai_runbook.operations.database import sessions, statements

Opens = Callable[..., Session]


@pytest.fixture
def loud() -> Iterator[None]:
    """Outside the change, these signals are errors: by default they would end the tests, and nohup ignores one."""

    def fail(number: int, frame: object) -> None:
        # not an Exception: apply goes on when showing its progress fails
        pytest.fail(f"the change did not handle {signal.Signals(number).name}")

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, fail) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def signalled(env: Environment, first: Session, second: Session, number: signal.Signals) -> Outcome:
    """Return the outcome of ending two sessions when this signal comes during step 1."""
    plan = sessions.terminate(env.database, pids=sorted(each.info.backend_pid for each in (first, second)))
    sent: list[bool] = []

    def progress(message: str) -> None:
        if message.startswith("step 1") and not sent:
            sent.append(True)
            signal.raise_signal(number)

    outcome = apply(plan, env, confirm=plan.confirmation, progress=progress)
    assert isinstance(outcome, Outcome) and sent
    return outcome


@pytest.mark.usefixtures("terminal", "loud")
def test_s15_sigterm_during_a_change_ends_in_a_known_outcome(
    here: Environment, session: Opens, journal: Journal
) -> None:
    outcome = signalled(here, session(), session(), signal.SIGTERM)
    assert outcome.status == "unknown" and outcome.interrupted
    assert "1 of 2 steps took effect: interrupted by SIGTERM before step 2 of 2" in outcome.summary
    assert journal.entries()[0].outcome is not None, "it is written"


@pytest.mark.usefixtures("terminal", "loud")
def test_s15_a_change_survives_its_terminal(here: Environment, session: Opens) -> None:
    first, second = session(), session()
    outcome = signalled(here, first, second, signal.SIGHUP)
    assert (outcome.status, outcome.interrupted) == ("done", False)
    assert not lives(first) and not lives(second)


def test_s15_a_long_step_survives_a_dropped_ssh(here: Environment, journal: Journal, tmp_path: Path) -> None:
    plan = statements.analyze(here.database, statement="SELECT pg_sleep(2)", within="30s")
    (tmp_path / "plan.json").write_bytes(plan.file())
    with Typed("apply", str(tmp_path / "plan.json"), journal=journal.folder) as person:
        person.until("anything else to cancel: ")
        person.type(plan.confirmation)
        eventually(lambda: [entry.status for entry in journal.entries()] == ["unknown"])
        person.hang_up()
        person.process.wait(60)
    assert [entry.status for entry in journal.entries()] == ["done"]


@pytest.mark.usefixtures("loud")
def test_the_handlers_of_before_come_back_and_children_inherit_none() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with DeferredInterrupt() as interrupt:
        shown = subprocess.run(
            [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        signal.raise_signal(signal.SIGHUP)
        assert not interrupt.received
    assert shown.stdout == "True\n"
    assert [signal.getsignal(number) for number in numbers] == before
