"""kill -9 at random moments of an apply: never an effect without an intent, never an outcome that is not so."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

from tests.execution.conftest import TORTURED
from xai_runbook.journal import Journal

SHORT = 30
FULL = 1000


def crashed(count: int, journal: Journal) -> list[str]:
    seed = random.SystemRandom().randrange(10**6)
    done = subprocess.run(
        [sys.executable, "-m", "tests.execution.crash", str(count), str(journal.folder), str(seed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.usefixtures("sandbox")
def test_what_is_killed_at_any_moment_can_be_told(journal: Journal) -> None:
    *_, how, last = crashed(SHORT, journal)
    assert last == f"{SHORT} applies, 0 effects without an intent, 0 false outcomes, 0 locks left"
    before, between, ended = map(int, re.findall(r"(\d+) (?:killed|between|came)", how))
    assert before + between + ended <= SHORT and before and ended >= 3, how


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("sandbox")
def test_a_thousand_of_them(journal: Journal, request: pytest.FixtureRequest) -> None:
    *_, how, last = crashed(FULL, journal)
    request.config.stash[TORTURED] = f"{how}\n{last}"
    assert last == f"{FULL} applies, 0 effects without an intent, 0 false outcomes, 0 locks left"
    before, between, ended = map(int, re.findall(r"(\d+) (?:killed|between|came)", how))
    assert min(before, between, ended) >= 10, f"moments of every kind: {how}"
