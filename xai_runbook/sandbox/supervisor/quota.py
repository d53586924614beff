"""The sandbox's own use of what it is allowed: processor, memory, disk, exported for Prometheus.

Counted are the supervisor, its descendants, and every process that carries the sandbox's mark in its environment (load
provoked later is started with it): nothing else on the machine can turn the verdict, and nothing of ours can hide.
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

from xai_runbook.sandbox.supervisor.component import MARK, Layout

if TYPE_CHECKING:
    from prometheus_client import Metric

CPU_QUOTA_CORES = 1.0
MEMORY_QUOTA_BYTES = 640 * 1024**2
DISK_QUOTA_BYTES = 2 * 1024**3
"""At rest a sandbox takes 8 % of a core, 220 MB and 100 MB; one busy process, or one with half a GB, is too much."""


DISK_SCAN_SECONDS = 5.0
"""A walk over some thousands of files costs more than all the rest, so it is made this seldom."""

MARK_CHECKS = 3
"""A process is looked at so many times before it is taken for a stranger: right after a fork it has no mark yet."""


class ResourceUsage:
    """What the sandbox uses, measured when asked."""

    def __init__(self, folder: Path, pids: Callable[[], Mapping[str, int]]) -> None:
        self._folder, self._pids = folder, pids
        self._mark = f"{MARK}={folder}".encode()
        self._cpu_seconds: dict[int, float] = {}
        self._unmarked: dict[int, int] = {}
        self._lock = threading.Lock()
        self._total: float | None = None
        self._disk = (0.0, -DISK_SCAN_SECONDS)

    def cpu_and_memory(self) -> tuple[float, int]:
        """Processor seconds since this was first asked, and the bytes of memory that belong to our processes alone.

        Memory is resident less shared: PostgreSQL's buffers, mapped by each backend, would be counted many times.
        """
        with self._lock:
            cpu_seconds, memory = 0.0, 0
            self._find_processes()
            for pid, before in list(self._cpu_seconds.items()):
                try:
                    cpu = _process_cpu_seconds(pid)
                    memory += _private_memory_bytes(pid)
                except (OSError, ValueError):
                    del self._cpu_seconds[pid]  # it ended
                    continue
                cpu_seconds += max(0.0, cpu - before)
                self._cpu_seconds[pid] = cpu
            self._total = 0.0 if self._total is None else self._total + cpu_seconds
            return self._total, memory

    def disk(self) -> float:
        """Bytes that the run folder and our nameless files take on disk, at most DISK_SECONDS old."""
        used, at = self._disk
        if time.monotonic() - at >= DISK_SCAN_SECONDS:
            device = os.stat(self._folder).st_dev
            used = float(sum(_allocated_bytes(self._folder)) + _deleted_open_bytes(self._cpu_seconds, device))
            self._disk = (used, time.monotonic())
        return used

    def processes(self) -> set[int]:
        """The processes counted when this was last asked."""
        return set(self._cpu_seconds)

    def _find_processes(self) -> None:
        """Looks at the processes that it does not know yet."""
        alive = {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}
        self._cpu_seconds = {pid: seconds for pid, seconds in self._cpu_seconds.items() if pid in alive}
        self._unmarked = {pid: checks for pid, checks in self._unmarked.items() if pid in alive}
        for pid in set(self._pids().values()) & alive:
            self._cpu_seconds.setdefault(pid, 0.0)
        for pid in sorted(alive - self._cpu_seconds.keys()):
            checks = self._unmarked.get(pid, 0)
            if checks < MARK_CHECKS and self._belongs_to_sandbox(pid):
                self._cpu_seconds[pid] = 0.0
            elif checks < MARK_CHECKS:
                self._unmarked[pid] = checks + 1

    def _belongs_to_sandbox(self, pid: int) -> bool:
        # PostgreSQL's backends overwrite their environment with their title: they are known by their parent.
        with suppress(OSError, ValueError):
            if int(_stat(pid)[1]) in self._cpu_seconds:
                return True
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False


def serve(layout: Layout, pids: Callable[[], Mapping[str, int]]) -> None:
    """Serves /metrics on the layout's quota port from a daemon thread, and returns. Raises OSError when it is taken."""
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


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the command's name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _process_cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _private_memory_bytes(pid: int) -> int:
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_bytes().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _allocated_bytes(folder: Path) -> Iterator[int]:
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # gone since it was listed
                yield os.lstat(os.path.join(path, name)).st_blocks * 512


def _deleted_open_bytes(pids: Iterable[int], device: int) -> int:
    """Bytes of files on this device that have no name any more and that our processes still hold open, as df counts."""
    sizes: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):  # it ended, or is another user's
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    status = os.stat(f"/proc/{pid}/fd/{entry}")
                    if stat.S_ISREG(status.st_mode) and not status.st_nlink and status.st_dev == device:
                        sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())
