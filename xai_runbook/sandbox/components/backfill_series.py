"""The synthetic metric history of the day before the sandbox's start.

Load peaks in the afternoon. Traffic, connections, CPU and latency follow it and end at the values of the live sandbox.
Labels equal those of the live series, so that the series continue. No alert condition holds for its full duration.
Counters restart with the real processes, which PromQL treats as a counter reset.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import psutil
from numpy.typing import NDArray

from xai_runbook.sandbox.components.workload import ROUTES
from xai_runbook.sandbox.node.metrics import DURATION_BUCKETS
from xai_runbook.sandbox.supervisor.component import DATABASE_OID, NODES, START_HEIGHT
from xai_runbook.sandbox.supervisor.quota import CPU_QUOTA_CORES, DISK_QUOTA_BYTES, MEMORY_QUOTA_BYTES

Floats: TypeAlias = NDArray[np.floating[Any]]
Integers: TypeAlias = NDArray[np.int64]

DAY_SECONDS = 24 * 3600
STEP_SECONDS = 60
FREQUENT_STEP_SECONDS = 10
FREQUENT_METRICS = ("blockchain_height", "network_best_height")
"""Heights need a sample every ten seconds: a rule compares them with their value ten seconds ago."""
FINE_SECONDS = 120
"""The last two minutes have a sample per second, as live series do: rates over ten seconds need them at once."""

AHEAD_SECONDS = 5
"""The history extends past the start, because Prometheus first scrapes about six seconds after it was started."""

BLOCK_SECONDS = 1.2
"""Mean time between blocks."""
SEED = 1_204_800


@dataclass(frozen=True)
class Series:
    """One series: ``values`` at ``times`` (seconds since 1970)."""

    name: str
    labels: Mapping[str, str]
    times: Integers
    values: Floats | Integers


class History:
    """Timestamps and load curve of the history, and functions that derive series from them."""

    def __init__(self, now: float) -> None:
        self.now = int(now)
        coarse = np.arange(self.now - DAY_SECONDS, self.now - FINE_SECONDS, STEP_SECONDS)
        fine = np.arange(self.now - FINE_SECONDS, self.now + AHEAD_SECONDS)
        self.times: Integers = np.concatenate([coarse, fine]).astype(np.int64)
        frequent = np.arange(self.now - DAY_SECONDS, self.now - FINE_SECONDS, FREQUENT_STEP_SECONDS)
        self.frequent_times: Integers = np.concatenate([frequent, fine]).astype(np.int64)
        self.random = np.random.default_rng(SEED)
        self.steps = np.diff(self.times, prepend=self.times[0] - STEP_SECONDS)
        hours = (self.times % DAY_SECONDS) / 3600
        wave = 0.5 - 0.5 * np.cos(2 * np.pi * (hours - 4) / 24)  # 0 at 04:00, 1 at 16:00 UTC
        lunch = 0.15 * np.exp(-(((hours - 12.5) / 0.8) ** 2))
        self.load: Floats = np.clip(wave - lunch, 0, 1) * 0.75 + 0.25
        self.load_now = float(self.load[-1])

    def gauge(self, level: float, swing: float = 0.0, noise: float = 0.02) -> Floats:
        """Return a gauge that ends at ``level``; ``swing`` is its relative difference between no load and full load."""
        drift = np.cumsum(self.random.normal(0, 1, len(self.times)) * np.sqrt(self.steps))
        drift = np.sin(drift / 60)  # keeps the random walk within bounds
        return level * (1 + swing * (self.load - self.load_now) + noise * drift)

    def counter(self, rate: Floats, start: float = 0.0) -> Floats:
        """Return a counter that grows by ``rate`` per second."""
        return start + np.cumsum(np.maximum(rate, 0) * self.steps)

    def traffic_rate(self, per_second: float) -> Floats:
        """Return requests per second, proportional to the load with some noise: ``per_second`` at the end."""
        noise = 1 + 0.08 * self.random.standard_normal(len(self.times))
        return per_second * self.load / self.load_now * np.clip(noise, 0.5, 1.5)

    def heights(self, delay: float, times: Integers) -> Integers:
        """Return a node's heights if each block arrives ``delay`` seconds late; START_HEIGHT at the start time."""
        gaps = np.random.default_rng(SEED).uniform(0.8, 1.6, int(DAY_SECONDS / BLOCK_SECONDS * 1.1))
        mined = self.now - np.cumsum(gaps)[::-1]
        seen = START_HEIGHT - len(mined) + np.searchsorted(mined, times - delay, side="right")
        ahead = np.maximum(times - self.now, 0) // 3  # slower than the real miner, so the live height is never lower
        return np.asarray(seen + ahead, np.int64)


def all_series(now: float, database: str) -> Iterator[Series]:
    """Yield all series of the day before ``now``, with the labels of the live targets."""
    history = History(now)
    targets = [("xai-node", name, node(history, number)) for number, name in enumerate(NODES)]
    targets += [("sandbox", "sandbox", sandbox(history)), ("node", "host", host(history))]
    targets += [("postgres", "postgres", postgres(history, database))]
    for job, instance, metrics in targets:
        labels = {"instance": instance, "job": job}
        yield Series("up", labels, history.times, np.ones(len(history.times), np.int64))
        yield Series("scrape_duration_seconds", labels, history.times, history.gauge(0.005, 0.0, 0.2))
        for name, metric_labels, values in metrics:
            times = history.frequent_times if name in FREQUENT_METRICS else history.times
            yield Series(name, {**labels, **metric_labels}, times, values)


Metric: TypeAlias = tuple[str, dict[str, str], "Floats | Integers"]


def node(history: History, number: int) -> Iterator[Metric]:
    """Yield the metrics of one XAI node."""
    ones = np.ones(len(history.times), np.int64)
    height = history.heights(0.1 * number, history.frequent_times)
    yield "blockchain_height", {}, height
    yield "network_best_height", {}, np.maximum(height, history.heights(0.1, history.frequent_times))
    height = history.heights(0.1 * number, history.times)
    yield "network_peers", {}, 3 * ones
    yield "node_time_seconds", {}, history.times
    yield "process_resident_memory_bytes", {}, history.gauge(31.2e6 + 0.1e6 * number, 0.12).astype(np.int64)
    yield "process_cpu_seconds_total", {}, history.counter(history.traffic_rate(0.0155 + 0.0005 * number), 2_000.0)
    yield "process_start_time_seconds", {}, (history.now - 3 * DAY_SECONDS - 100 * number) * ones
    yield "process_open_fds", {}, history.gauge(18, 0.3, 0.1).astype(np.int64)
    yield "process_max_fds", {}, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1024) * ones
    yield "process_gc_seconds_total", {}, history.counter(history.traffic_rate(0.0004), 20.0)
    origin = "mined" if number == 0 else "peer"
    yield "blockchain_blocks_total", {"origin": origin}, height - height[0] + 200_000
    yield "mempool_transactions", {}, history.gauge(1.5, 0.6, 0.5).astype(np.int64)
    submitted: Floats = np.zeros(len(history.times))
    for route, (method, status, per_second, median) in ROUTES.items():
        rate = history.traffic_rate(per_second)
        requests = history.counter(rate, 150_000 * per_second).astype(np.int64)
        yield "http_requests_total", {"method": method, "route": route, "status": str(status)}, requests
        if method == "POST":
            submitted = history.counter(rate * len(NODES), 200_000)
        yield from histogram(history, route, rate, 150_000 * per_second, median)
    yield "blockchain_transactions_total", {}, submitted.astype(np.int64)


def histogram(history: History, route: str, rate: Floats, start: float, median: float) -> Iterator[Metric]:
    """Yield the latency histogram of a route: log-normal, with a median that rises by half with the load."""
    name, spread = "http_request_duration_seconds", 0.6
    noise = 1 + 0.05 * history.random.standard_normal(len(history.times))
    medians = median * (1 + 0.5 * (history.load - history.load_now)) * noise
    for bound in DURATION_BUCKETS:
        within = 1 / (1 + np.exp(-1.702 * (np.log(bound) - np.log(medians)) / spread))
        buckets = history.counter(rate * within, start * float(within[0])).astype(np.int64)
        yield f"{name}_bucket", {"le": str(bound), "route": route}, buckets
    count = history.counter(rate, start).astype(np.int64)
    yield f"{name}_bucket", {"le": "+Inf", "route": route}, count
    yield f"{name}_count", {"route": route}, count
    mean = float(np.exp(spread**2 / 2))
    yield f"{name}_sum", {"route": route}, history.counter(rate * medians * mean, start * median * mean)


def sandbox(history: History) -> Iterator[Metric]:
    """Yield the sandbox's resource usage and quotas."""
    ones = np.ones(len(history.times), np.int64)
    yield "sandbox_cpu_seconds_total", {}, history.counter(history.traffic_rate(0.085), 9_000.0)
    yield "sandbox_cpu_quota_cores", {}, CPU_QUOTA_CORES * ones
    yield "sandbox_memory_bytes", {}, history.gauge(225e6, 0.25).astype(np.int64)
    yield "sandbox_memory_quota_bytes", {}, MEMORY_QUOTA_BYTES * ones
    yield "sandbox_disk_used_bytes", {}, np.linspace(88e6, 98e6, len(history.times)).astype(np.int64)
    yield "sandbox_disk_quota_bytes", {}, DISK_QUOTA_BYTES * ones


def host(history: History) -> Iterator[Metric]:
    """Yield the node exporter's metrics; counters end at this machine's live values, or reset there."""
    shares = {"user": 0.09, "system": 0.04, "iowait": 0.01, "softirq": 0.005, "nice": 0.0, "irq": 0.0, "steal": 0.0}
    for cpu, times in enumerate(psutil.cpu_times(percpu=True)):
        live = times._asdict()
        used = np.zeros(len(history.times))
        for mode, share in shares.items():
            rate = np.minimum(history.traffic_rate(share), 0.4)
            used += rate
            yield "node_cpu_seconds_total", {"cpu": str(cpu), "mode": mode}, end_at(history.counter(rate), live[mode])
        idle = end_at(history.counter(1 - used), live["idle"])
        yield "node_cpu_seconds_total", {"cpu": str(cpu), "mode": "idle"}, idle
    total = psutil.virtual_memory().total
    yield "node_memory_MemTotal_bytes", {}, np.full(len(history.times), total, np.int64)
    for name, share in (("MemAvailable", 0.62), ("MemFree", 0.38), ("Cached", 0.21), ("Buffers", 0.02)):
        yield f"node_memory_{name}_bytes", {}, history.gauge(share * total, -0.1).astype(np.int64)
    disk = os.statvfs("/")
    device, fstype = root_device()
    labels = {"device": device, "fstype": fstype, "mountpoint": "/"}
    yield "node_filesystem_size_bytes", labels, np.full(len(history.times), disk.f_blocks * disk.f_frsize, np.int64)
    for name, free in (("avail", disk.f_bavail), ("free", disk.f_bfree)):
        left = np.linspace(1.004, 1.0, len(history.times)) * free * disk.f_frsize
        yield f"node_filesystem_{name}_bytes", labels, left.astype(np.int64)
    yield "node_time_seconds", {}, history.times
    for name in ("node_load1", "node_load5", "node_load15"):
        yield name, {}, np.maximum(history.gauge(0.4, 0.8, 0.2), 0.01)


def postgres(history: History, database: str) -> Iterator[Metric]:
    """Yield the postgres exporter's metrics."""
    labels = {"datname": database}
    ones = np.ones(len(history.times), np.int64)
    yield "pg_up", {}, ones
    yield "pg_settings_max_connections", {}, 60 * ones
    yield "pg_settings_superuser_reserved_connections", {}, 3 * ones
    for state, level in (("active", 1.2), ("idle", 8.0), ("idle in transaction", 0.2)):
        count = history.gauge(level, 0.9, 0.15)
        yield "pg_stat_activity_count", {"state": state, **labels}, np.clip(np.round(count), 0, 30).astype(np.int64)
    yield (
        "pg_stat_database_numbackends",
        {"datid": str(DATABASE_OID), **labels},
        np.round(history.gauge(9, 0.8, 0.1)).astype(np.int64),
    )
    counters = {"xact_commit": 4.7, "xact_rollback": 0.01, "blks_hit": 900, "blks_read": 1.5, "tup_returned": 4000}
    counters |= {"tup_fetched": 700, "tup_inserted": 4, "tup_updated": 3, "tup_deleted": 0.02, "deadlocks": 0.0}
    for name, rate in counters.items():
        values = history.counter(history.traffic_rate(rate), 5e6 * rate).astype(np.int64)
        yield f"pg_stat_database_{name}", {"datid": str(DATABASE_OID), **labels}, values
    size = np.linspace(24e6, 30.9e6, len(history.times)).astype(np.int64)
    yield "pg_database_size_bytes", labels, size


def end_at(counter: Floats, live: float) -> Floats:
    """Shift a counter so that it ends at its live value, or above a smaller one, which then looks like a reset."""
    last = float(counter[-1])
    return counter + (live - last) if live >= last else counter + live + 1


def root_device() -> tuple[str, str]:
    """Return device and type of the root file system, as the node exporter labels them, from /proc/mounts.

    Not psutil's `disk_partitions`, which resolves /dev/root and drops the device "none".
    """
    found = ("unknown", "unknown")
    with open("/proc/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            device, point, fstype, *_ = line.split()
            if point == "/":
                found = (device, fstype)
    return found
