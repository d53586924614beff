"""Provoked load as a program: it keeps its floors, it ends, and it ends nobody but itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pace import stretched
from tests.support.started import eventually
from xai_runbook.clients.sandbox import Sandbox
from xai_runbook.environment import Environment
from xai_runbook.errors import BadAnswer
from xai_runbook.operations.monitoring import alert_rehearsal

LOAD = [sys.executable, "-m", "xai_runbook.sandbox.faults.load"]


def load(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOAD, *words], capture_output=True, text=True, timeout=60, env=os.environ | more, check=False
    )


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def started_at(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_it_does_not_begin_where_who_started_it_has_died(env: Environment) -> None:
    """Between its start and its looking who that was."""
    done = load("cpu", "--seconds", "30", XAI_RUNBOOK_PARENT="1")
    assert done.returncode == 1 and not done.stdout


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_a_floor_is_kept(env: Environment, what: str, tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path)] if what == "disk" else []
    room = [*folder, "--until", str(2**40), "--floor", str(2**50), "--quota-url", env.sandbox.quota_url]
    began = time.monotonic()
    done = load(what, "--seconds", "30", *room)
    assert done.returncode == 1 and f"less than {2**50} bytes" in done.stdout
    assert time.monotonic() - began < stretched(20) and list(tmp_path.iterdir()) == []


def test_it_ends_by_itself(env: Environment, tmp_path: Path) -> None:
    began = time.monotonic()
    for words in (
        ["cpu", "--seconds", "1"],
        ["memory", "--seconds", "1", "--until", "1", "--floor", "1", "--quota-url", env.sandbox.quota_url],
        ["disk", "--seconds", "1", "--until", "1", "--floor", "1", "--quota-url", env.sandbox.quota_url, "--folder",
         str(tmp_path)],
    ):  # fmt: skip
        done = load(*words)
        assert done.returncode == 0 and "s to go" in done.stdout, done.stderr
    assert 3 <= time.monotonic() - began < stretched(20)


@pytest.mark.parametrize("seconds", ["0", "-1", "3601", "x"])
def test_it_lasts_an_hour_at_most(seconds: str) -> None:
    assert load("cpu", "--seconds", seconds).returncode == 2


def test_a_sandbox_that_does_not_tell_its_use_is_left_alone(env: Environment) -> None:
    told = ["--until", "9", "--floor", "1", "--quota-url", env.prometheus.url]
    done = load("memory", "--seconds", "9", *told)
    assert done.returncode == 1 and "does not export sandbox_memory_bytes" in done.stderr
    settings = env.settings.sandbox
    assert settings is not None
    other = Sandbox(
        settings.model_copy(update={"quota_url": env.prometheus.url}), environment="sandbox", production=False
    )
    with pytest.raises(BadAnswer, match="exports no quotas"):
        other.metrics()


def test_end_ends_that_very_process(sleeper: subprocess.Popen[bytes]) -> None:
    wrong = load("end", str(sleeper.pid), "17")
    assert wrong.returncode == 1 and "now belongs to another process" in wrong.stdout and sleeper.poll() is None
    assert load("end", str(sleeper.pid), started_at(sleeper.pid)).returncode == 0
    assert sleeper.wait(10) == -15
    gone = load("end", str(sleeper.pid), "17")
    assert gone.returncode == 1 and "has already ended" in gone.stdout


def test_loads_of_this_sandbox_alone_are_seen(env: Environment) -> None:
    """Those of another sandbox, or of nobody, are not ours to end."""
    with (
        subprocess.Popen([*LOAD, "cpu", "--seconds", "30"], stdout=subprocess.DEVNULL) as strange,
        subprocess.Popen(
            [*LOAD, "cpu", "--seconds", "30"], stdout=subprocess.DEVNULL, env=os.environ | env.sandbox.mark
        ) as ours,
    ):
        try:
            eventually(lambda: str(ours.pid) in [found["pid"] for found in env.sandbox.loads()])
            assert str(strange.pid) not in [found["pid"] for found in env.sandbox.loads()]
            plan = alert_rehearsal.end_load(env.sandbox)
            assert f"cpu load, pid {ours.pid}" in plan.targets and len(plan.steps) == len(plan.targets)
        finally:
            strange.kill()
            ours.kill()
    eventually(lambda: env.sandbox.loads() == [])
