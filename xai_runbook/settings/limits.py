"""Settings of limits: the limits themselves, and the metric names, windows and PromQL signals they are judged by.

To add a limit: a field in its section below, its table in `settings/defaults/SECTION.toml`, a query and a check, and
a question in a notebook. A limit that Prometheus evaluates also has a signal of the same name.
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from xai_runbook.model.findings import Limit
from xai_runbook.settings.types import Duration, HeightIs, MetricName, Model


class Windows(Model):
    """Time windows of PromQL expressions."""

    rate: Duration
    requests: Duration
    growth: Duration
    history: Duration
    scrapes: Duration
    trouble: Duration


class Metrics(Model):
    """The name of each metric in this environment."""

    height: MetricName
    height_is: HeightIs
    best_height: MetricName
    peers: MetricName
    process_cpu_seconds: MetricName
    process_memory_bytes: MetricName
    gc_seconds: MetricName
    requests: MetricName
    request_seconds: MetricName
    route_label: MetricName
    status_label: MetricName
    host_cpu_seconds: MetricName
    host_memory_available_bytes: MetricName
    host_memory_bytes: MetricName
    filesystem_available_bytes: MetricName
    filesystem_bytes: MetricName
    filesystem_readonly: MetricName
    database_backends: MetricName
    database_max_connections: MetricName
    database_reserved_connections: MetricName
    database_role_reserved_connections: MetricName
    blocks: MetricName
    transactions: MetricName
    pending_transactions: MetricName
    process_open_files: MetricName
    process_most_files: MetricName
    host_load: MetricName
    host_time_seconds: MetricName
    host_received_bytes: MetricName
    host_sent_bytes: MetricName
    disk_busy_seconds: MetricName
    database_commits: MetricName
    database_rollbacks: MetricName
    database_blocks_hit: MetricName
    database_blocks_read: MetricName
    database_deadlocks: MetricName
    database_size_bytes: MetricName
    database_transaction_seconds: MetricName


class Signals(Model):
    """PromQL of each limit that Prometheus evaluates, under the limit's name."""

    cpu_used: str
    disk_free: str
    memory_used: str
    api_errors: str
    api_latency: str
    database_connections: str
    peer_count: str
    block_growth: str
    sync_lag: str
    metrics_present: str
    targets_up: str
    open_files: str
    clock_skew: str


class Section(Model):
    """The limits of one section; the key of each is its name."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, tables: Any) -> Any:
        if not isinstance(tables, dict):
            return tables
        return {key: {"name": key, **row} if isinstance(row, dict) else row for key, row in tables.items()}


class MonitoringLimits(Section):
    """Limits of the alert table, of scraping, of Prometheus and Alertmanager; those with a signal become rules."""

    cpu_used: Limit
    disk_free: Limit
    memory_used: Limit
    api_errors: Limit
    database_connections: Limit
    peer_count: Limit
    block_growth: Limit
    sync_lag: Limit
    metrics_present: Limit
    targets_up: Limit
    open_files: Limit
    clock_skew: Limit
    targets_present: Limit
    scrape_time: Limit
    prometheus_config: Limit
    prometheus_clock: Limit
    prometheus_history: Limit
    prometheus_storage: Limit
    prometheus_ingestion: Limit
    prometheus_growth: Limit
    remote_write: Limit
    prometheus_reachable: Limit
    alertmanager_reachable: Limit
    silences: Limit
    rules_current: Limit
    rule_groups: Limit


class GrafanaLimits(Section):
    """Limits of Grafana."""

    grafana_reachable: Limit
    dashboards: Limit
    dashboard_panels: Limit
    datasources: Limit


class DatabaseLimits(Section):
    """Limits of PostgreSQL, its standbys, its proxy and its pooler."""

    database_reachable: Limit
    pool: Limit
    lock_waits: Limit
    idle_in_transaction: Limit
    transaction_age: Limit
    idle_sessions: Limit
    proxy_reachable: Limit
    pooler_reachable: Limit
    pool_waiting: Limit
    database_role: Limit
    standbys_connected: Limit
    replication_lag: Limit
    replication_slots: Limit
    checksums: Limit
    consistency: Limit
    rollback_ratio: Limit
    dead_row_ratio: Limit
    transaction_ids_used: Limit
    indexes_valid: Limit
    statement_time: Limit
    cache_hit: Limit


class BackupLimits(Section):
    """Limits of backups and of the WAL archive."""

    backup_age: Limit
    backups_intact: Limit
    restore_time: Limit
    wal_archiving: Limit


class ServiceLimits(Section):
    """Limits of the services other than nodes and database."""

    cache_reachable: Limit


class TroubleshootingLimits(Section):
    """Limits of what the nodes' own API reports, and of the API's latency."""

    api_latency: Limit
    node_reachable: Limit
    node_synced: Limit
    network_lag: Limit
    node_peers: Limit


class Limits(Model):
    """All limits, by section. A name is unique over all sections, because findings are identified by it alone."""

    monitoring: MonitoringLimits
    grafana: GrafanaLimits
    database: DatabaseLimits
    backups: BackupLimits
    services: ServiceLimits
    troubleshooting: TroubleshootingLimits

    @property
    def by_name(self) -> dict[str, Limit]:
        """Return every limit of every section by its name, in the order of the table."""
        return {name: limit for _, section in self for name, limit in section}


def section_of(name: str) -> str:
    """Return the section of the limit of that name; "" if there is no such limit."""
    sections = ((key, field.annotation) for key, field in Limits.model_fields.items())
    return next((key for key, model in sections if name in getattr(model, "model_fields", {})), "")
