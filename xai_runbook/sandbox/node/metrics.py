"""Metrics of a simulated node, under the runbook's names.

prometheus_client keeps and writes the series: a label combination appears once it has occurred, as in any real
exporter, and the ``process_`` metrics are those of the process itself.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, in seconds."""


class _GarbageCollectionTime:
    """Seconds spent in garbage collection. Takes no lock, as it is called at any point of the program."""

    def __init__(self) -> None:
        self.seconds = self._begun = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._begun = now
        else:
            self.seconds += now - self._begun


class NodeMetrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(
        self,
        height: Callable[[], float],
        best: Callable[[], float],
        peers: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """Register the metrics. The gauges call these functions at each scrape."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        gc_time = _GarbageCollectionTime()
        gc.callbacks.append(gc_time)
        gauges = (
            ("blockchain_height", "Height of the newest block this node holds.", height),
            ("network_best_height", "Highest height that this node or any peer has announced.", best),
            ("network_peers", "Peers connected, handshake completed.", peers),
            ("node_time_seconds", "This node's clock.", now),
            ("process_gc_seconds_total", "Time spent in garbage collection.", lambda: gc_time.seconds),
        )
        for name, text, read in gauges:
            Gauge(name, text, registry=registry).set_function(read)
        self.blocks = Counter(
            "blockchain_blocks", "Blocks added to the chain, by origin.", ["origin"], registry=registry
        )
        self.transactions = Counter("blockchain_transactions", "Transactions accepted.", registry=registry)
        self.mempool = Gauge("mempool_transactions", "Transactions waiting for a block.", registry=registry)
        self._requests = Counter(
            "http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Time to answer a request.",
            ["route"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
