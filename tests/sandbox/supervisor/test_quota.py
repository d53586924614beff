"""The sandbox's resource usage, measured on real processes and files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from tests.support.started import eventually
from xai_runbook.sandbox.supervisor import quota
from xai_runbook.sandbox.supervisor.component import MARK, Layout, free_ports

BUSY = "while True: sum(range(1000))"
HOLDS = "x = bytearray(80_000_000); x[::4096] = b'x' * len(x[::4096]); import time; time.sleep(60)"


@contextmanager
def process(code: str, mark: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    env = {"PATH": os.environ["PATH"], **({MARK: str(mark)} if mark else {})}
    running = subprocess.Popen([sys.executable, "-c", code], env=env)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def usage(tmp_path: Path) -> quota.ResourceUsage:
    tracker = quota.ResourceUsage(tmp_path, dict)
    tracker.cpu_and_memory()
    return tracker


def cpu_seconds_used(usage: quota.ResourceUsage, seconds: float = 1.0) -> float:
    before, _ = usage.cpu_and_memory()
    time.sleep(seconds)
    return usage.cpu_and_memory()[0] - before


def test_a_busy_process_counts_only_with_the_mark(usage: quota.ResourceUsage, tmp_path: Path) -> None:
    with process(BUSY, None), process(BUSY, tmp_path / "another"):
        assert cpu_seconds_used(usage) < 0.15
    with process(BUSY, tmp_path) as busy:
        eventually(lambda: cpu_seconds_used(usage, 0.5) > 0.1)
        assert busy.pid in usage.processes()


def test_a_child_counts_without_the_mark(usage: quota.ResourceUsage, tmp_path: Path) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}], env={{}}, timeout=30)"
    with process(child, tmp_path) as parent:
        child_pids: set[int] = set()

        def children() -> set[int]:
            usage.cpu_and_memory()
            child_pids.update(usage.processes() - {parent.pid})
            return child_pids

        assert eventually(children)
        assert eventually(lambda: cpu_seconds_used(usage, 0.5) > 0.1)
        for pid in child_pids:
            os.kill(pid, 9)


def test_cpu_seconds_of_an_ended_process_stay_counted(usage: quota.ResourceUsage, tmp_path: Path) -> None:
    with process(BUSY, tmp_path):
        eventually(lambda: cpu_seconds_used(usage, 0.5) > 0.1)
    total, _ = usage.cpu_and_memory()
    assert total > 0.1
    time.sleep(0.2)
    assert usage.cpu_and_memory()[0] >= total


def test_only_memory_of_marked_processes_counts(usage: quota.ResourceUsage, tmp_path: Path) -> None:
    _, before = usage.cpu_and_memory()
    with process(HOLDS, tmp_path):
        eventually(lambda: usage.cpu_and_memory()[1] - before > 75e6)
    eventually(lambda: usage.cpu_and_memory()[1] - before < 30e6)


def test_disk_counts_allocated_bytes_of_the_folder(tmp_path: Path) -> None:
    before = quota.ResourceUsage(tmp_path, dict).disk()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x" * 3_000_000)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 10**9)
    assert 2.9e6 < quota.ResourceUsage(tmp_path, dict).disk() - before < 3.5e6


def test_given_pids_are_counted_and_exported(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path, free_ports())
    with process(BUSY, None) as busy:
        quota.serve(layout, lambda: {"part": busy.pid, "gone": 2**22 + 1})

        def metrics() -> dict[str, float]:
            with urlopen(f"{layout.url('quota')}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            return {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}

        first = metrics()
        assert first["sandbox_cpu_seconds_total"] == 0  # CPU time before the first measurement does not count
        assert first["sandbox_processes"] >= 2  # this process has other children too
        assert first["sandbox_cpu_quota_cores"] == quota.CPU_QUOTA_CORES
        assert first["sandbox_memory_quota_bytes"] == quota.MEMORY_QUOTA_BYTES
        assert first["sandbox_disk_quota_bytes"] == quota.DISK_QUOTA_BYTES
        assert set(first) > {"sandbox_memory_bytes", "sandbox_disk_used_bytes"}
        eventually(lambda: metrics()["sandbox_cpu_seconds_total"] > 0.1)


def test_a_measurement_is_cheap(usage: quota.ResourceUsage) -> None:
    usage.cpu_and_memory()
    before = time.process_time()
    for _ in range(10):
        usage.cpu_and_memory()
    each = (time.process_time() - before) / 10 / len(psutil.pids())
    assert each < 0.0005, "seconds per process of this machine, 0.1 s for 200 processes"
