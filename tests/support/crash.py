"""Apply a change again and again and kill it at random moments: `python -m tests.support.crash N FOLDER SEED`.

Needs a running sandbox. Each apply is a process of its own, forked from this one, which has imported everything and has
no connection to inherit. After each, the journal is verified and compared with what really happened.

Moments lie between the fork and somewhat more than the duration of an apply, most of them while it acts. The duration
is measured again by each apply that completes. If moments of one kind are missing after N applies, more follow, up to
MOST times as many.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from tests.support.changing import lives, with_journal
from xai_runbook import apply, connect
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.reconcile import reconcile
from xai_runbook.changes.target_lock import Lock
from xai_runbook.environment import Environment
from xai_runbook.errors import Refused
from xai_runbook.model.outcome import Outcome
from xai_runbook.operations.database import sessions
from xai_runbook.sandbox.components import postgres_template

FEWEST = 3
"""Applies of each kind that a run must have: fewer prove nothing."""
MOST = 6
"""Factor of N up to which more applies are made."""


@dataclass
class Tally:
    """Counts of applies, by what they left."""

    applies: int = 0
    without_intent: int = 0
    false: int = 0
    locks: int = 0
    ended: int = 0
    """Applies that completed before they were killed."""
    reconciled: int = 0
    """Applies that left only an intent."""
    untouched: int = 0
    """Applies that were killed before their intent."""

    def lacks_samples(self) -> bool:
        """Return whether there are too few applies of a kind."""
        return min(self.untouched, self.reconciled, self.ended) < FEWEST

    def __str__(self) -> str:
        return (
            f"{self.applies} applies, {self.without_intent} effects without an intent, {self.false} false outcomes, "
            f"{self.locks} locks left"
        )


def reported(pipe: int) -> dict[str, Any] | None:
    """Return the outcome that the apply wrote to the pipe, or None if it was killed before."""
    with os.fdopen(pipe, "rb") as report:
        content = report.read()
    return json.loads(content) if content.endswith(b"\n") else None


def apply_once(env: Environment, pid: int, pipe: int) -> None:
    """Plan and apply, in the forked process, as a user at a terminal would."""
    sys.stdin = os.fdopen(os.openpty()[1])
    plan = sessions.terminate(env.database, pids=[pid])
    outcome = apply(plan, env, confirm=plan.confirmation, reason="crash test", progress=lambda words: None)
    assert isinstance(outcome, Outcome)
    os.write(pipe, json.dumps(outcome.to_json()).encode() + b"\n")


def apply_and_kill(env: Environment, pid: int, after: float) -> tuple[dict[str, Any] | None, float]:
    """Run one apply and kill it after `after` seconds; return its outcome, if any, and how long it ran."""
    read, write = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        try:
            apply_once(env, pid, write)
        finally:
            os._exit(0)
    os.close(write)
    while (left := after - (time.monotonic() - started)) > 0 and not os.waitid(
        os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(min(left, 0.002))
    seconds = time.monotonic() - started
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return reported(read), seconds


def trial(env: Environment, journal: Journal, superuser: Any, after: float, tally: Tally) -> float:
    """Apply the change to a fresh session, kill it, and compare journal and effect."""
    database = env.settings.database
    assert database is not None
    folder = Path(os.environ["XAI_RUNBOOK_SANDBOX"])
    with psycopg.connect(
        host=database.host, port=database.port, dbname=database.dbname, user="xai_app", application_name="victim",
        password=(folder / "secrets" / "app.password").read_text().strip(), autocommit=True,
    ) as victim:  # fmt: skip
        return trial_on(victim, env, journal, superuser, after, tally)


def trial_on(
    victim: psycopg.Connection[Any], env: Environment, journal: Journal, superuser: Any, after: float, tally: Tally
) -> float:
    """Return how long the apply ran. The session stays open until it was checked, because its end is the effect."""
    before = len(journal.entries())
    report, seconds = apply_and_kill(env, victim.info.backend_pid, after)
    tally.applies += 1
    # a statement that was sent before the kill takes effect, or the server notices the lost client
    end = time.monotonic() + 10
    while superuser.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xai-runbook apply'"
    ).fetchone()[0]:
        assert time.monotonic() < end, "the session of a killed apply stays"
        time.sleep(0.002)
    dead = not lives(victim)
    journal.verify()
    entries = journal.entries()[before:]
    assert len(entries) <= 1
    if not entries:
        tally.untouched += 1
        tally.without_intent += dead
        tally.false += report is not None
        return seconds
    (entry,) = entries
    expected = "done" if dead else "failed"
    if report is not None:
        tally.ended += 1
        tally.false += report["status"] != entry.status
    if entry.outcome is None:
        tally.reconciled += 1
        end = time.monotonic() + 10
        while True:
            try:
                reconciled_outcome = reconcile(env, entry.number)
                if reconciled_outcome.status != expected:
                    tally.false += 1
                    print(f"{reconciled_outcome} of a session that is {'dead' if dead else 'alive'}")
                break
            except Refused:
                assert time.monotonic() < end, "the target stays locked"
                time.sleep(0.01)
    else:
        tally.false += entry.status != expected
    with Lock(journal.folder, entry.intent["plan"]["parts"]):
        pass
    return seconds


def locks_left(superuser: Any, journal: Journal) -> int:
    """Return the number of advisory locks in the server and of locked lock files."""
    count = superuser.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()[0]
    held = {line.split()[5] for line in Path("/proc/locks").read_text().splitlines() if "FLOCK" in line}
    inodes = {str(path.stat().st_ino) for path in (journal.folder / "locks").iterdir()}
    return int(count) + len(inodes & {entry.rpartition(":")[2] for entry in held})


def main(count: int, folder: Path, seed: int) -> int:
    """Run the trials and print the tally in the last line; return 1 if it is wrong."""
    journal = Journal(folder)
    journal.create()
    env = with_journal(connect("sandbox"), journal)
    rng, tally = random.Random(seed), Tally()
    database = env.settings.database
    assert database is not None
    data = Path(os.environ["XAI_RUNBOOK_SANDBOX"]) / "postgres" / "data"
    with postgres_template.connect(data, database.port, database.dbname) as superuser:
        durations: list[float] = []
        while tally.applies < count or (tally.lacks_samples() and tally.applies < MOST * count):
            env.database.close()  # a forked process must not inherit a connection
            uninterrupted = len(durations) < 3 or tally.applies % 8 == 7  # runs to its end
            after = 30 if uninterrupted else rng.triangular(0, 1.2, 0.8) * median(durations[-5:])
            ended = tally.ended
            seconds = trial(env, journal, superuser, after, tally)
            if tally.ended > ended:
                durations.append(seconds)
            if tally.applies % 100 == 0:
                print(f"{tally} so far ({tally.ended} completed)", flush=True)
        tally.locks = locks_left(superuser, journal)
    print(
        f"seed {seed}: {tally.untouched} killed before their intent, {tally.reconciled} between intent and outcome, "
        f"{tally.ended} completed; {journal.verify()} records"
    )
    print(tally)
    return int(bool(tally.without_intent + tally.false + tally.locks))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
