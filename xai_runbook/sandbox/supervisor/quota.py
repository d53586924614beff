"""The sandbox's use of CPU, memory and disk against its quotas, exported for Prometheus.

Counted are the supervisor, its descendants, and every process with the sandbox's mark in its environment, such as load
that is provoked later. Other processes of this machine do not count.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from xai_runbook.sandbox.supervisor.component import MARK, Layout

if TYPE_CHECKING:
    from prometheus_client import Metric

CPU_QUOTA_CORES = 1.0
MEMORY_QUOTA_BYTES = 640 * 1024**2
DISK_QUOTA_BYTES = 2 * 1024**3
"""An idle sandbox uses 8 % of a core, 220 MB of memory and 100 MB of disk.

One busy process, or one with half a GB of memory, exceeds the limits.
"""


DISK_SCAN_SECONDS = 5.0
"""Least time between two scans of the run folder: a scan of some thousand files costs more than all the rest."""

MARK_CHECKS = 3
"""How often a process is checked for the mark before it is ignored: right after a fork it may not have it yet."""


class ResourceUsage:
    """Measures what the sandbox uses, each time it is asked."""

    def __init__(self, folder: Path, pids: Callable[[], Mapping[str, int]]) -> None:
        self._folder, self._pids = folder, pids
        self._mark = f"{MARK}={folder}".encode()
        self._processes: dict[int, psutil.Process] = {}
        self._cpu_seconds: dict[int, float] = {}
        self._unmarked: dict[int, int] = {}
        self._lock = threading.Lock()
        self._total: float | None = None
        self._disk = (0.0, -DISK_SCAN_SECONDS)

    def cpu_and_memory(self) -> tuple[float, int]:
        """Return the CPU seconds used since the first call, and the bytes of private memory.

        Private memory is resident less shared memory: PostgreSQL's shared buffers would otherwise count per backend.
        """
        with self._lock:
            cpu_seconds, memory_bytes = 0.0, 0
            self._find_processes()
            for pid, process in list(self._processes.items()):
                try:
                    with process.oneshot():
                        has_ended = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
                        cpu, memory = process.cpu_times(), process.memory_info()
                except (psutil.Error, OSError):
                    has_ended = True
                if has_ended:
                    del self._processes[pid], self._cpu_seconds[pid]
                    continue
                cpu_seconds += max(0.0, cpu.user + cpu.system - self._cpu_seconds[pid])
                self._cpu_seconds[pid] = cpu.user + cpu.system
                memory_bytes += memory.rss - memory.shared
            self._total = 0.0 if self._total is None else self._total + cpu_seconds
            return self._total, memory_bytes

    def disk(self) -> float:
        """Return the bytes that the run folder and deleted open files use on disk, at most DISK_SCAN_SECONDS old."""
        used, at = self._disk
        if time.monotonic() - at >= DISK_SCAN_SECONDS:
            device = os.stat(self._folder).st_dev
            used = float(sum(_allocated_bytes(self._folder)) + _deleted_open_bytes(self.processes(), device))
            self._disk = (used, time.monotonic())
        return used

    def processes(self) -> set[int]:
        """Return the pids that the last measurement counted."""
        return set(self._processes)

    def _find_processes(self) -> None:
        """Add new processes of the sandbox and drop ended ones."""
        alive = set(psutil.pids())
        for pid in self._processes.keys() - alive:
            del self._processes[pid], self._cpu_seconds[pid]
        self._unmarked = {pid: checks for pid, checks in self._unmarked.items() if pid in alive}
        for pid in set(self._pids().values()) & alive - self._processes.keys():
            self._add(pid)
        for pid in sorted(alive - self._processes.keys()):
            checks = self._unmarked.get(pid, 0)
            if checks < MARK_CHECKS and self._belongs_to_sandbox(pid):
                self._add(pid)
            elif checks < MARK_CHECKS:
                self._unmarked[pid] = checks + 1

    def _add(self, pid: int) -> None:
        with suppress(psutil.Error, OSError):  # it has ended
            self._processes[pid] = psutil.Process(pid)
            self._cpu_seconds[pid] = 0.0

    def _belongs_to_sandbox(self, pid: int) -> bool:
        # PostgreSQL's backends overwrite their environment with their title, so the parent is checked first.
        with suppress(psutil.Error, OSError):
            if psutil.Process(pid).ppid() in self._processes:
                return True
            # Not psutil's `environ`, which stops at the first empty entry: a program that sets its title has some.
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False


def serve(layout: Layout, pids: Callable[[], Mapping[str, int]]) -> None:
    """Serve /metrics on the quota port from a daemon thread. Raises OSError if the port is taken."""
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    usage = ResourceUsage(layout.folder, lambda: {"supervisor": os.getpid(), **pids()})

    class Quotas(Collector):
        def collect(self) -> Iterator[Metric]:
            cpu, memory = usage.cpu_and_memory()
            yield CounterMetricFamily("sandbox_cpu_seconds", "CPU time of the sandbox's processes.", cpu)
            gauges = (
                ("cpu_quota_cores", "CPU cores that the sandbox may use.", CPU_QUOTA_CORES),
                ("memory_bytes", "Private memory of the sandbox's processes.", memory),
                ("memory_quota_bytes", "Memory that the sandbox may use.", MEMORY_QUOTA_BYTES),
                ("disk_used_bytes", "Disk space used by the run folder.", usage.disk()),
                ("disk_quota_bytes", "Disk space that the sandbox may use.", DISK_QUOTA_BYTES),
                ("processes", "Processes that are counted.", len(usage.processes())),
            )
            for name, text, value in gauges:
                yield GaugeMetricFamily(f"sandbox_{name}", text, value)

    registry = CollectorRegistry()
    registry.register(Quotas())
    start_http_server(layout.ports["quota"], layout.host, registry)


def _allocated_bytes(folder: Path) -> Iterator[int]:
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # removed since it was listed
                yield os.lstat(os.path.join(path, name)).st_blocks * 512


def _deleted_open_bytes(pids: Iterable[int], device: int) -> int:
    """Return the bytes of deleted files on this device that our processes still hold open: they use disk space too.

    Not psutil's `open_files`, which omits deleted files.
    """
    sizes: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):  # it has ended, or belongs to another user
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    status = os.stat(f"/proc/{pid}/fd/{entry}")
                    if stat.S_ISREG(status.st_mode) and not status.st_nlink and status.st_dev == device:
                        sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())
