"""kill -9 at random moments of an apply: never an effect without an intent, never a false outcome."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

from tests.support.changing import TORTURED
from xai_runbook.changes.journal import Journal

SHORT = 30
FULL = 1000


def crashed(count: int, journal: Journal) -> str:
    """Return the last two lines of its output, after checking that nothing was false and each kind of kill occurred."""
    seed = random.SystemRandom().randrange(10**6)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.crash", str(count), str(journal.folder), str(seed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *_, how, last = done.stdout.splitlines()
    assert re.fullmatch(r"\d+ applies, 0 effects without an intent, 0 false outcomes, 0 locks left", last)
    kinds = list(map(int, re.findall(r"(\d+) (?:killed|between|came)", how)))
    assert int(last.split()[0]) >= count and min(kinds) >= 3, how
    return f"{how}\n{last}"


@pytest.mark.usefixtures("sandbox")
def test_an_apply_killed_at_any_moment_has_a_true_record(journal: Journal) -> None:
    crashed(SHORT, journal)


@pytest.mark.torture
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("sandbox")
def test_a_thousand_killed_applies(journal: Journal, request: pytest.FixtureRequest) -> None:
    request.config.stash[TORTURED] = crashed(FULL, journal)
