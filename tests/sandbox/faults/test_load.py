"""Provoked load as a program: it leaves enough free, it ends, and `end` hits no other process."""

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
from xai_runbook.system import processes

LOAD = [sys.executable, "-m", "xai_runbook.sandbox.faults.load"]


def load(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOAD, *arguments], capture_output=True, text=True, timeout=60, env=os.environ | variables, check=False
    )


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_it_does_not_start_after_its_parent_has_died(env: Environment) -> None:
    """The parent may die between the fork and the check of its pid."""
    completed = load("cpu", "--seconds", "30", XAI_RUNBOOK_PARENT="1")
    assert completed.returncode == 1 and not completed.stdout


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_it_stops_before_free_space_falls_below_the_floor(env: Environment, kind: str, tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path)] if kind == "disk" else []
    limits = [*folder, "--until", str(2**40), "--floor", str(2**50), "--quota-url", env.sandbox.quota_url]
    started = time.monotonic()
    completed = load(kind, "--seconds", "30", *limits)
    assert completed.returncode == 1 and f"less than {2**50} bytes" in completed.stdout
    assert time.monotonic() - started < stretched(20) and list(tmp_path.iterdir()) == []


def test_it_ends_by_itself(env: Environment, tmp_path: Path) -> None:
    started = time.monotonic()
    for arguments in (
        ["cpu", "--seconds", "1"],
        ["memory", "--seconds", "1", "--until", "1", "--floor", "1", "--quota-url", env.sandbox.quota_url],
        ["disk", "--seconds", "1", "--until", "1", "--floor", "1", "--quota-url", env.sandbox.quota_url, "--folder",
         str(tmp_path)],
    ):  # fmt: skip
        completed = load(*arguments)
        assert completed.returncode == 0 and "s to go" in completed.stdout, completed.stderr
    assert 3 <= time.monotonic() - started < stretched(20)


@pytest.mark.parametrize("seconds", ["0", "-1", "3601", "x"])
def test_durations_outside_an_hour_are_refused(seconds: str) -> None:
    assert load("cpu", "--seconds", seconds).returncode == 2


def test_a_sandbox_without_usage_metrics_gets_no_load(env: Environment) -> None:
    arguments = ["--until", "9", "--floor", "1", "--quota-url", env.prometheus.url]
    completed = load("memory", "--seconds", "9", *arguments)
    assert completed.returncode == 1 and "does not export sandbox_memory_bytes" in completed.stderr
    settings = env.settings.sandbox
    assert settings is not None
    other = Sandbox(
        settings.model_copy(update={"quota_url": env.prometheus.url}), environment="sandbox", production=False
    )
    with pytest.raises(BadAnswer, match="exports no quotas"):
        other.metrics()


def test_end_signals_only_the_process_that_was_started_then(sleeper: subprocess.Popen[bytes]) -> None:
    mismatch = load("end", str(sleeper.pid), "17")
    assert mismatch.returncode == 1 and "now belongs to another process" in mismatch.stdout and sleeper.poll() is None
    assert load("end", str(sleeper.pid), str(processes.created_at(sleeper.pid))).returncode == 0
    assert sleeper.wait(10) == -15
    ended = load("end", str(sleeper.pid), "17")
    assert ended.returncode == 1 and "has already ended" in ended.stdout


def test_only_loads_of_this_sandbox_are_listed(env: Environment) -> None:
    """Loads of another sandbox, or outside of one, must not be ended."""
    with (
        subprocess.Popen([*LOAD, "cpu", "--seconds", "30"], stdout=subprocess.DEVNULL) as other,
        subprocess.Popen(
            [*LOAD, "cpu", "--seconds", "30"], stdout=subprocess.DEVNULL, env=os.environ | env.sandbox.mark
        ) as own,
    ):
        try:
            eventually(lambda: str(own.pid) in [row["pid"] for row in env.sandbox.loads()])
            assert str(other.pid) not in [row["pid"] for row in env.sandbox.loads()]
            plan = alert_rehearsal.end_load(env.sandbox)
            assert f"cpu load, pid {own.pid}" in plan.targets and len(plan.steps) == len(plan.targets)
        finally:
            other.kill()
            own.kill()
    eventually(lambda: env.sandbox.loads() == [])
