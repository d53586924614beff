"""A provoked alert, by plan and apply: Prometheus raises it, `check` reports it, the load ends and the alert resolves.

The journal records it. Whatever ends the load, nothing of it remains.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.pace import stretched
from tests.support.started import eventually
from tests.support.typed import Typed, run
from xai_runbook import connect
from xai_runbook import sandbox as sandboxes
from xai_runbook.changes.journal import Journal
from xai_runbook.environment import Environment

SECONDS = 60.0
OTHERS_SECONDS = 150


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A sandbox that only these tests use, because they raise its alerts."""
    where = tmp_path_factory.mktemp("provoked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XAI_RUNBOOK_SANDBOX", str(where))
        sandboxes.up(where, bound=True)
        try:
            yield connect("sandbox")
        finally:
            sandboxes.down(where)


def finding(name: str, journal: Journal) -> dict[str, Any]:
    done = run("check", name, "--env", "sandbox", "--json", journal=journal.folder)
    (found,) = json.loads(done.stdout)["findings"]
    return dict(found)


@contextmanager
def applied(change: str, folder: Path, journal: Journal) -> Iterator[Typed]:
    """Plan the change and apply it, with the confirmation typed in a terminal."""
    file = folder / "change.plan.json"
    planned = run("plan", change, "--env", "sandbox", "--out", str(file), journal=journal.folder)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    with Typed("apply", str(file), "--reason", "rehearsal", journal=journal.folder) as person:
        person.until("anything else to cancel: ")
        words = re.search(r"to apply +type: (.+?)\r?\n", person.shown)
        assert words
        person.type(words[1])
        yield person


def idle_cores() -> float:
    """Return how many processors were idle over a second."""

    def free() -> float:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        return (int(fields[1]) + int(fields[3])) / os.sysconf("SC_CLK_TCK")  # nice, and idle

    before = free()
    time.sleep(1)
    return free() - before


def wait_for_idle_cores() -> None:
    """Wait until enough processors are idle for the load, which has low priority; skip the test if they stay busy."""
    end = time.monotonic() + OTHERS_SECONDS
    while (spare := idle_cores()) < 1.2:
        if time.monotonic() > end:
            pytest.skip(f"the load needs 1.2 idle cores, and after {OTHERS_SECONDS} s there were {spare:.1f}")


def firing(env: Environment, alert: str) -> bool:
    held = env.prometheus.alerts()
    return bool(((held["alert"] == alert) & (held["state"] == "firing")).any())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("change", "name", "alert"),
    [
        ("monitoring.provoke_memory", "memory_used", "HighMemory"),
        ("monitoring.provoke_disk", "disk_free", "LowDisk"),
        pytest.param("monitoring.provoke_cpu", "cpu_used", "HighCPU", marks=pytest.mark.quiet),
    ],
)
def test_an_alert_is_provoked_reported_and_resolved(
    change: str, name: str, alert: str, own: Environment, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    journal.create()
    eventually(lambda: finding(name, journal)["status"] == "ok" and not firing(own, alert), SECONDS)
    if name == "cpu_used":
        wait_for_idle_cores()
    with applied(change, tmp_path, journal) as person:
        eventually(lambda: person.read() or firing(own, alert), SECONDS)
        assert own.sandbox.loads(), "raised while it runs"
        during = finding(name, journal)
        assert during["status"] == "alert", during
        assert person.ended(SECONDS) == 0, person.shown
    assert "DONE (journal entry 1)" in person.shown and "running 0, settled 1" in person.shown
    assert own.sandbox.loads() == []
    eventually(lambda: finding(name, journal)["status"] == "ok" and not firing(own, alert), SECONDS)
    entry = run("journal", "show", "1", journal=journal.folder).stdout
    assert (
        "done" in entry and "rehearsal" in entry and f"{alert} by" in entry and "end_load (xai-runbook undo)" in entry
    )
    assert journal.verify() == 2


@pytest.mark.timeout(600)
def test_a_load_ends_with_whoever_started_it(own: Environment, tmp_path: Path) -> None:
    """kill -9 of the apply: the load ends, its space is freed, and reconcile finds the outcome."""
    journal = Journal(tmp_path / "journal")
    journal.create()
    eventually(lambda: not firing(own, "LowDisk"), SECONDS)
    free = os.statvfs(own.sandbox.folder)
    with applied("monitoring.provoke_disk", tmp_path, journal) as person:
        person.until("MiB allocated")
        taken = os.statvfs(own.sandbox.folder)
        assert (free.f_bfree - taken.f_bfree) * free.f_frsize > 2**30
        person.process.kill()
    started = time.monotonic()
    eventually(lambda: not own.sandbox.loads())
    assert time.monotonic() - started < stretched(5)
    eventually(lambda: (free.f_bfree - os.statvfs(own.sandbox.folder).f_bfree) * free.f_frsize < 2**29)
    assert [entry.status for entry in journal.entries()] == ["unknown"]
    looked = run("journal", "reconcile", "1", "--env", "sandbox", "--json", journal=journal.folder)
    assert json.loads(looked.stdout)["status"] in ("failed", "done"), looked.stdout


@pytest.mark.timeout(600)
def test_a_load_can_be_ended_by_its_undo(own: Environment, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.create()
    eventually(lambda: not firing(own, "HighMemory"), SECONDS)
    with applied("monitoring.provoke_memory", tmp_path, journal) as person:
        person.until("MiB held")
        undo = tmp_path / "back.plan.json"
        back = run("undo", "1", "--env", "sandbox", "--out", str(undo), journal=journal.folder)
        assert back.returncode == 0 and "memory load, pid" in back.stdout, back.stdout + back.stderr
        with Typed("apply", str(undo), journal=journal.folder) as ends:
            ends.until("anything else to cancel: ")
            words = re.search(r"to apply +type: (.+?)\r?\n", ends.shown)
            assert words
            ends.type(words[1])
            assert ends.ended() == 0, ends.shown
        assert person.ended() == 1, person.shown
        assert "nothing was done: step 1 of 1: it ended with exit code 1: ended by SIGTERM" in person.shown
    assert own.sandbox.loads() == []
