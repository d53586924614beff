"""Metrics of nodes, processes and hosts, from Prometheus. Source: runbook, Monitoring and Alerting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from xai_runbook.errors import InputError
from xai_runbook.model.window import Window, duration_seconds, duration_text
from xai_runbook.operations.monitoring._series import columns, existing, metric, plain, some, widened
from xai_runbook.settings.limits import Metrics, Signals

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.model.findings import Limit

SLACK_SECONDS = 60.0
"""How much longer than twice a limit's duration its signal reaches back."""
_NO_METRICS = {"height_is", "route_label", "status_label"}

# queries that find the targets whose signal is NaN because nothing happened, such as a quantile of no requests
_IDLE = {
    "api_latency": (
        "sum by (instance) (rate(${request_seconds}_count[${requests_window}])) == 0",
        "histogram_count(sum by (instance) (rate(${request_seconds}[${requests_window}]))) == 0",  # from 2.40 on
    )
}


def targets(prometheus: Prometheus) -> DataFrame:
    """Return the targets that Prometheus scrapes, and whether the last scrape succeeded.

    Columns: job, instance, up (1 or 0), at (UTC). Errors: NoData if nothing is scraped.
    """
    frame = some(prometheus, "up", "any target", "scrape_configs in prometheus.yml")
    return columns(frame, ["job", "instance"], up="value", at="at")


def blockchain_height(prometheus: Prometheus) -> DataFrame:
    """Return each node's block height at its last scrape.

    Columns: node (the label instance), height (index: the genesis block is 0), age_seconds (since the scrape).
    Errors: NoData if no node exports the metric. Source: runbook, Prometheus Queries; errata E12, E15.
    """
    name = prometheus.settings.metrics.height
    heights = metric(prometheus, "${height}", name)
    ages = prometheus.instant(prometheus.promql("time() - timestamp(${height})"), heights["at"].iloc[0])
    first = 1 if prometheus.settings.metrics.height_is == "count" else 0
    labels = [column for column in ages.columns if column not in ("at", "value")]
    merged = heights.merge(ages[[*labels, "value"]], how="left", on=labels, suffixes=("", "_age"))
    merged["value"] = merged["value"] - first
    return columns(merged, ["instance"], height="value", age_seconds="value_age").rename(columns={"instance": "node"})


def network_peers(prometheus: Prometheus) -> DataFrame:
    """Return how many peers each node has.

    Columns: node (the label instance), peers (count). Errors: NoData if no node exports the metric.
    Source: runbook, Prometheus Queries; errata E12, E15.
    """
    frame = metric(prometheus, "${peers}", prometheus.settings.metrics.peers)
    return columns(frame, ["instance"], peers="value").rename(columns={"instance": "node"})


def process_cpu(prometheus: Prometheus) -> DataFrame:
    """Return each process's CPU use over the settings' window `rate`.

    Columns: job, instance, cores_used (1.0 is one core). Errors: NoData if no process exports the metric, or has fewer
    than two scrapes. Source: runbook, Prometheus Queries, whose "CPU usage" queries memory (errata E13).
    """
    name = prometheus.settings.metrics.process_cpu_seconds
    frame = metric(prometheus, "rate(${process_cpu_seconds}[${rate_window}])", name)
    return columns(frame, ["job", "instance"], cores_used="value")


def process_memory(prometheus: Prometheus) -> DataFrame:
    """Return each process's resident memory, which the runbook's "CPU usage" query returns.

    Columns: job, instance, resident_bytes. Errors: NoData if no process exports the metric. Source: errata E13.
    """
    frame = metric(prometheus, "${process_memory_bytes}", prometheus.settings.metrics.process_memory_bytes)
    return columns(frame, ["job", "instance"], resident_bytes="value")


def process_files(prometheus: Prometheus) -> DataFrame:
    """Return each process's open file descriptors, connections included, and its limit.

    Columns: job, instance, open_files (count), max_open_files (count: the soft limit), used_ratio (0 to 1).
    Errors: NoData if no process exports the metric. Source: Prometheus docs, client libraries' process metrics.
    """
    name = prometheus.settings.metrics.process_open_files
    frame = metric(prometheus, "${process_open_files}", name)
    maximum = prometheus.instant(prometheus.promql("${process_most_files}"), frame["at"].iloc[0])
    by = ["job", "instance"]
    limits = columns(maximum, by, max_open_files="value").drop_duplicates(by)
    files = columns(frame, by, open_files="value").merge(limits, how="left", on=by)
    return files.assign(used_ratio=files["open_files"] / files["max_open_files"].where(files["max_open_files"] > 0))


def process_gc(prometheus: Prometheus) -> DataFrame:
    """Return the share of time that each process spends in garbage collection, over the settings' window `rate`.

    Columns: job, instance, gc_ratio (0 to 1). Errors: NoData if no process exports the metric.
    """
    frame = metric(prometheus, "rate(${gc_seconds}[${rate_window}])", prometheus.settings.metrics.gc_seconds)
    return columns(frame, ["job", "instance"], gc_ratio="value")


def hosts(prometheus: Prometheus) -> DataFrame:
    """Return the CPU, memory and disk use of each host, from its node exporter.

    Columns: instance, cpu_ratio (busy, over the settings' window `rate`), memory_ratio (used), mountpoint and
    disk_ratio (used, of the fullest file system; NaN if it exports none).
    Errors: NoData if no host exports its CPU time. Source: runbook, Alert Thresholds.
    """
    name = prometheus.settings.metrics.host_cpu_seconds
    cpu = metric(prometheus, '1 - avg by (instance) (rate(${host_cpu_seconds}{mode="idle"}[${rate_window}]))', name)
    frame, at = columns(cpu, ["instance"], cpu_ratio="value"), cpu["at"].iloc[0]
    memory = prometheus.instant(
        prometheus.promql("max by (instance) (1 - ${host_memory_available_bytes} / ${host_memory_bytes})"), at
    )
    disks = prometheus.instant(
        prometheus.promql(
            '1 - ${filesystem_available_bytes}{fstype!~"tmpfs|ramfs|overlay|squashfs"} / (${filesystem_bytes} > 0)'
        ),
        at,
    )
    fullest = columns(disks, ["instance", "mountpoint"], disk_ratio="value").sort_values("disk_ratio")
    frame = frame.merge(columns(memory, ["instance"], memory_ratio="value"), how="left", on="instance")
    return frame.merge(fullest.drop_duplicates("instance", keep="last"), how="left", on="instance")


def history(prometheus: Prometheus, name: str, window: Window | str | None = None) -> DataFrame:
    """Return a signal or metric over a window, for a chart: about 500 points per series.

    `name` is a limit ("sync_lag") or a metric of the settings ("height"). `window` is a Window or text such as "6h", by
    default the settings' window `history`. Rates look back over at least two points. Columns: the labels (categorical),
    at (UTC), value; a gap has no rows.
    Errors: NoData, InputError. Source: runbook, Prometheus Queries (the range query); errata E14.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    if name in Signals.model_fields:
        query = widened(prometheus, window).promql(name)
    elif name in Metrics.model_fields.keys() - _NO_METRICS:
        query = prometheus.promql("${" + name + "}")
    else:
        known = sorted({*Signals.model_fields, *Metrics.model_fields} - _NO_METRICS)
        raise InputError(f"{name!r} is not a signal or metric", hint=f"one of {', '.join(known)}")
    return plain(existing(prometheus.range(query, window), name, prometheus, _setting(name)))


def signal(prometheus: Prometheus, limit: Limit, window: Window | None = None, step: str | None = None) -> DataFrame:
    """Return the signal of `limit` at each rule evaluation (or `step`), for `monitoring.check_alert`.

    By default over twice the limit's duration plus a minute, until now. Columns: the labels (categorical), at (UTC),
    value (in the limit's unit), idle (bool: the value is NaN because there was nothing to measure).
    Errors: NoData if no series has the signal; InputError if the limit has no Prometheus rule.
    """
    if limit.name not in Signals.model_fields:
        raise InputError(f"no Prometheus rule judges {limit.name}", hint=f"one of {', '.join(Signals.model_fields)}")
    step = step or prometheus.access.step
    seconds = 2 * limit.duration_seconds + SLACK_SECONDS + 2 * duration_seconds(step)
    window = window or Window.parse(duration_text(seconds))
    query = prometheus.settings.promql(limit.name)
    frame = plain(existing(prometheus.range(query, window, step), limit.name, prometheus, _setting(limit.name)))
    frame["idle"] = False
    if limit.name in _IDLE and frame["value"].isna().any():
        classic, native = (prometheus.promql(template) for template in _IDLE[limit.name])
        quiet = prometheus.range(classic, window, step)
        quiet = prometheus.range(native, window, step) if quiet.empty else quiet
        pairs = pd.MultiIndex.from_frame(columns(quiet, ["instance"], at="at"))
        frame["idle"] = frame["value"].isna() & pd.MultiIndex.from_frame(columns(frame, ["instance"], at="at")).isin(
            pairs
        )
    return frame


def _setting(name: str) -> str:
    return f"signals.{name}" if name in Signals.model_fields else f"metrics.{name}"
