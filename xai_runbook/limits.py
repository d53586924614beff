"""The tables that limits are judged by: what metrics are called here, the PromQL of each signal, the limits themselves.

To add a limit: a field below, its row in `environments/defaults.toml`, a query and a check, a question in a notebook.
One that Prometheus judges has a signal of the same name too.
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from xai_runbook.findings import Limit
from xai_runbook.kinds import Duration, HeightIs, MetricName, Model


class Windows(Model):
    """Spans that PromQL looks back over."""

    rate: Duration
    requests: Duration
    growth: Duration
    history: Duration


class Metrics(Model):
    """What each metric is called here."""

    height: MetricName
    height_is: HeightIs
    best_height: MetricName
    peers: MetricName
    process_cpu_seconds: MetricName
    process_memory_bytes: MetricName
    requests: MetricName
    request_seconds: MetricName
    host_cpu_seconds: MetricName
    host_memory_available_bytes: MetricName
    host_memory_bytes: MetricName
    filesystem_available_bytes: MetricName
    filesystem_bytes: MetricName
    database_backends: MetricName
    database_max_connections: MetricName
    database_reserved_connections: MetricName


class Signals(Model):
    """PromQL of each limit that Prometheus judges, named as the limit."""

    high_cpu: str
    low_disk: str
    high_memory: str
    api_errors: str
    api_latency: str
    database_connections: str
    peer_count: str
    block_height: str
    sync_lag: str
    metrics_missing: str
    targets_up: str


class Limits(Model):
    """The table of limits. Those that have a signal become Prometheus rules too."""

    high_cpu: Limit
    low_disk: Limit
    high_memory: Limit
    api_errors: Limit
    api_latency: Limit
    database_connections: Limit
    peer_count: Limit
    block_height: Limit
    sync_lag: Limit
    metrics_missing: Limit
    targets_up: Limit
    prometheus_reachable: Limit
    database_reachable: Limit
    node_reachable: Limit
    cache_reachable: Limit
    node_synced: Limit
    network_lag: Limit
    node_peers: Limit
    pool: Limit

    @model_validator(mode="before")
    @classmethod
    def _named(cls, tables: Any) -> Any:
        if not isinstance(tables, dict):
            return tables
        return {key: {"name": key, **row} if isinstance(row, dict) else row for key, row in tables.items()}
