"""Sessions that end and begin between plan and apply: the plan acts on those it observed, or on none."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.changing import Session, lives
from xai_runbook import apply
from xai_runbook.changes.journal import Journal
from xai_runbook.environment import Environment
from xai_runbook.errors import Refused
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import Plan
from xai_runbook.operations.database import sessions


def machine(env: Environment, opens: Callable[..., Session], journal: Journal) -> type[RuleBasedStateMachine]:
    class World(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.alive: dict[int, Session] = {}
            self.planned: list[tuple[Plan, set[int]]] = []
            self.used: set[str] = set()

        @rule()
        def begin(self) -> None:
            session = opens("worker")
            self.alive[session.info.backend_pid] = session

        @precondition(lambda self: self.alive)
        @rule(choice=st.randoms(use_true_random=False))
        def end(self, choice) -> None:  # type: ignore[no-untyped-def]
            pid = choice.choice(sorted(self.alive))
            self.alive.pop(pid).close()
            while env.database.rows("sessions_by_pid", {"pids": [pid]}):
                pass

        @precondition(lambda self: self.alive)
        @rule(choice=st.randoms(use_true_random=False))
        def plan(self, choice) -> None:  # type: ignore[no-untyped-def]
            pids = choice.sample(sorted(self.alive), choice.randint(1, min(3, len(self.alive))))
            self.planned.append((sessions.terminate(env.database, pids=pids), set(pids)))

        @precondition(lambda self: self.planned)
        @rule(choice=st.randoms(use_true_random=False))
        def carry_out(self, choice) -> None:  # type: ignore[no-untyped-def]
            plan, pids = choice.choice(self.planned)
            if plan.digest in self.used:
                with pytest.raises(Refused, match="applied before"):
                    apply(plan, env, confirm=plan.confirmation)
            elif pids <= self.alive.keys():
                outcome = apply(plan, env, confirm=plan.confirmation)
                assert isinstance(outcome, Outcome) and outcome.status == "done", outcome
                self.used.add(plan.digest)
                for pid in pids:
                    assert not lives(self.alive.pop(pid))
            else:
                with pytest.raises(Refused, match="the system has changed") as why:
                    apply(plan, env, confirm=plan.confirmation)
                gone = pids - self.alive.keys()
                assert gone <= set(map(int, re.findall(r"\d+", str(why.value).partition("(database")[0]))), "shown"

        @invariant()
        def no_other_session_is_ended(self) -> None:
            assert all(lives(session) for session in self.alive.values())

        def teardown(self) -> None:
            for session in self.alive.values():
                session.close()
            assert all(entry.status == "done" for entry in journal.entries())
            journal.verify()

    return World


@pytest.mark.usefixtures("terminal")
def test_a_plan_acts_on_the_sessions_it_observed_or_on_none(
    here: Environment, session: Callable[..., Session], journal: Journal
) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(here, session, journal),
        settings=settings(
            max_examples=12, stateful_step_count=12, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    assert journal.entries(), "some were carried out"
