"""Monitoring: what Prometheus says of nodes, processes and requests. Runbook, Monitoring and Alerting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xai_runbook.errors import InputError, NoData
from xai_runbook.limits import Metrics, Signals
from xai_runbook.window import Window, duration_seconds, duration_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pandas import DataFrame

    from xai_runbook.clients.prometheus import Prometheus
    from xai_runbook.findings import Limit
    from xai_runbook.settings import Settings

SLACK_SECONDS = 60.0

# Where a signal is NaN because nothing happened: a quantile of no requests. Other NaNs stay unexplained.
_IDLE = {"api_latency": "sum by (instance) (rate(${request_seconds}_count[${requests_window}])) == 0"}


def targets(prometheus: Prometheus) -> DataFrame:
    """What Prometheus scrapes, and whether it could the last time.

    Columns: job, instance, up (1 or 0), at (UTC). Errors: NoData where nothing is scraped at all.
    """
    frame = _some(prometheus, "up", "any target", "scrape_configs in prometheus.yml")
    return _columns(frame, ["job", "instance"], up="value", at="at")


def blockchain_height(prometheus: Prometheus) -> DataFrame:
    """Each node's height as Prometheus last heard it.

    Columns: node (the label instance), height (index: the genesis block is 0), age_seconds (since it was scraped).
    Errors: NoData where no node exports the metric. Source: runbook, Prometheus Queries; errata E12, E15.
    """
    name = prometheus.settings.metrics.height
    heights = _metric(prometheus, "${height}", name)
    stamps = prometheus.instant(prometheus.promql("time() - timestamp(${height})"), heights["at"].iloc[0])
    first = 1 if prometheus.settings.metrics.height_is == "count" else 0
    labels = [column for column in stamps.columns if column not in ("at", "value")]
    merged = heights.merge(stamps[[*labels, "value"]], how="left", on=labels, suffixes=("", "_age"))
    merged["value"] = merged["value"] - first
    return _columns(merged, ["instance"], height="value", age_seconds="value_age").rename(columns={"instance": "node"})


def network_peers(prometheus: Prometheus) -> DataFrame:
    """How many peers each node has.

    Columns: node (the label instance), peers (count). Errors: NoData where no node exports the metric.
    Source: runbook, Prometheus Queries; errata E12, E15.
    """
    frame = _metric(prometheus, "${peers}", prometheus.settings.metrics.peers)
    return _columns(frame, ["instance"], peers="value").rename(columns={"instance": "node"})


def process_cpu(prometheus: Prometheus) -> DataFrame:
    """How much CPU each process uses, over the window that the settings call rate.

    Columns: job, instance, cores_used (1.0 is one whole core). Errors: NoData where no process exports it, or for
    less than two scrapes. Source: runbook, Prometheus Queries, whose "CPU usage" asks for memory (errata E13).
    """
    name = prometheus.settings.metrics.process_cpu_seconds
    frame = _metric(prometheus, "rate(${process_cpu_seconds}[${rate_window}])", name)
    return _columns(frame, ["job", "instance"], cores_used="value")


def process_memory(prometheus: Prometheus) -> DataFrame:
    """How much memory each process holds: the runbook's literal "CPU usage" query under its true name.

    Columns: job, instance, resident_bytes. Errors: NoData where no process exports it. Source: errata E13.
    """
    frame = _metric(prometheus, "${process_memory_bytes}", prometheus.settings.metrics.process_memory_bytes)
    return _columns(frame, ["job", "instance"], resident_bytes="value")


def process_files(prometheus: Prometheus) -> DataFrame:
    """How many files and connections each process holds open, and how many it may.

    Columns: job, instance, open_files (count), most_files (count: its soft limit), used_ratio (0 to 1).
    Errors: NoData where no process exports it. Source: Prometheus docs, client libraries' process metrics.
    """
    name = prometheus.settings.metrics.process_open_files
    frame = _metric(prometheus, "${process_open_files}", name)
    most = prometheus.instant(prometheus.promql("${process_most_files}"), frame["at"].iloc[0])
    by = ["job", "instance"]
    limits = _columns(most, by, most_files="value").drop_duplicates(by)
    made = _columns(frame, by, open_files="value").merge(limits, how="left", on=by)
    return made.assign(used_ratio=made["open_files"] / made["most_files"].where(made["most_files"] > 0))


def process_gc(prometheus: Prometheus) -> DataFrame:
    """How much of its time each process spends collecting garbage, over the window that the settings call rate.

    Columns: job, instance, gc_ratio (0 to 1: seconds a second). Errors: NoData where no process exports it.
    """
    frame = _metric(prometheus, "rate(${gc_seconds}[${rate_window}])", prometheus.settings.metrics.gc_seconds)
    return _columns(frame, ["job", "instance"], gc_ratio="value")


def hosts(prometheus: Prometheus) -> DataFrame:
    """How busy each machine is, as its node exporter tells.

    Columns: instance, cpu_ratio (busy; over the window that the settings call rate), memory_ratio (used), mountpoint
    and disk_ratio (used, of its fullest file system; NaN where it tells none).
    Errors: NoData where no machine exports it. Source: runbook, Alert Thresholds, whose rows are about hosts.
    """
    name = prometheus.settings.metrics.host_cpu_seconds
    cpu = _metric(prometheus, '1 - avg by (instance) (rate(${host_cpu_seconds}{mode="idle"}[${rate_window}]))', name)
    frame, at = _columns(cpu, ["instance"], cpu_ratio="value"), cpu["at"].iloc[0]
    memory = prometheus.instant(prometheus.promql("1 - ${host_memory_available_bytes} / ${host_memory_bytes}"), at)
    disks = prometheus.instant(
        prometheus.promql(
            '1 - ${filesystem_available_bytes}{fstype!~"tmpfs|ramfs|overlay|squashfs"} / (${filesystem_bytes} > 0)'
        ),
        at,
    )
    fullest = _columns(disks, ["instance", "mountpoint"], disk_ratio="value").sort_values("disk_ratio")
    frame = frame.merge(_columns(memory, ["instance"], memory_ratio="value"), how="left", on="instance")
    return frame.merge(fullest.drop_duplicates("instance", keep="last"), how="left", on="instance")


def request_latency(prometheus: Prometheus, quantiles: Sequence[float] = (0.5, 0.95, 0.99)) -> DataFrame:
    """How long requests take, by instance and route, over the window that the settings call requests.

    Columns: instance, route, quantile (0 to 1), seconds (NaN where there were no requests), requests_per_second,
    in_last_bucket (the quantile lies beyond the last finite bucket: seconds is only the least it can be).
    Errors: NoData where there is no histogram; InputError. Source: runbook, Slow API Response, which asks for the
    histogram's base name, which no series has (errata E63).
    """
    if not quantiles or not all(0 <= quantile <= 1 for quantile in quantiles):
        raise InputError(f"{list(quantiles)} are not quantiles", hint="numbers from 0 to 1, such as 0.95")
    name = prometheus.settings.metrics.request_seconds
    by = ["instance", "route"]
    query = prometheus.promql("sum by (instance, route, le) (rate(${request_seconds}_bucket[${requests_window}]))")
    buckets = _some(prometheus, query, name + "_bucket", "metrics.request_seconds; a native histogram has no buckets")
    buckets = _columns(buckets, [*by, "le"], value="value", at="at")
    buckets["bound"] = buckets["le"].astype(float)
    group = buckets.groupby(by)
    about = pd.DataFrame(
        {
            "requests_per_second": buckets[np.isposinf(buckets["bound"])].set_index(by)["value"],
            "last": buckets[np.isfinite(buckets["bound"])].groupby(by)["bound"].max().reindex(group.size().index),
        }
    )
    answers = []
    for quantile in quantiles:
        asked = "histogram_quantile(" + repr(float(quantile)) + ", " + query + ")"
        answer = _columns(prometheus.instant(asked, buckets["at"].iloc[0]), by, seconds="value")
        answers.append(answer.assign(quantile=float(quantile)))
    frame = pd.concat(answers, ignore_index=True).join(about, on=by)
    frame["in_last_bucket"] = frame["seconds"] >= frame["last"]
    frame = frame.sort_values([*by, "quantile"], ignore_index=True)
    return frame[[*by, "quantile", "seconds", "requests_per_second", "in_last_bucket"]]


def error_rate(prometheus: Prometheus) -> DataFrame:
    """How many requests fail, by instance, over the window that the settings call requests.

    Columns: instance, requests_per_second, errors_per_second (answers 500 to 599; one that never occurred has no
    series, and with requests counted that is 0), error_ratio (0 to 1; NaN where there were no requests).
    Errors: NoData where no requests are counted at all. Source: runbook, Alert Thresholds, API Errors.
    """
    name = prometheus.settings.metrics.requests
    asked = _metric(prometheus, "sum by (instance) (rate(${requests}[${requests_window}]))", name)
    failed = prometheus.instant(
        prometheus.promql('sum by (instance) (rate(${requests}{status=~"5.."}[${requests_window}]))'),
        asked["at"].iloc[0],
    )
    frame = _columns(asked, ["instance"], requests_per_second="value")
    errors = _columns(failed, ["instance"], value="value").set_index("instance")["value"]
    frame["errors_per_second"] = frame["instance"].map(errors).astype(float).fillna(0.0)
    frame["error_ratio"] = frame["errors_per_second"] / frame["requests_per_second"].where(
        frame["requests_per_second"] > 0
    )
    return frame


def history(prometheus: Prometheus, name: str, window: Window | str | None = None) -> DataFrame:
    """A signal or metric over a window, for a chart: about 500 points a series.

    `name` is a limit's ("sync_lag") or a metric's of the settings ("height"); `window` is a Window or text such as
    "6h", by default the settings' history. Rates look back over two points at least. Columns: the labels
    (categorical), at (UTC), value; gaps are absent rows.
    Errors: NoData, InputError. Source: runbook, Prometheus Queries (the range query); errata E14.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    if name in Signals.model_fields:
        query = _widened(prometheus, window).promql(name)
    elif name in Metrics.model_fields and name != "height_is":
        query = prometheus.promql("${" + name + "}")
    else:
        known = sorted({*Signals.model_fields, *Metrics.model_fields} - {"height_is"})
        raise InputError(f"{name!r} is no signal or metric", hint=f"one of {', '.join(known)}")
    return _plain(_none(prometheus.range(query, window), name, prometheus, _called(name)))


def _widened(prometheus: Prometheus, window: Window) -> Settings:
    """The settings with rates that look back as far as a chart's points lie apart: none falls between two points.

    Over hours at least far enough for two scrapes a minute apart, as older history may be coarse.
    """
    least = max(2 * prometheus.chart_step_seconds(window), 150.0 if window.seconds > 3600 else 0.0)
    windows = prometheus.settings.windows
    wide = {key: duration_text(max(least, duration_seconds(getattr(windows, key)))) for key in ("rate", "requests")}
    return prometheus.settings.model_copy(update={"windows": windows.model_copy(update=wide)})


def signal(prometheus: Prometheus, limit: Limit, window: Window | None = None, step: str | None = None) -> DataFrame:
    """What `alerts.check_alert` judges `limit` by: its signal at each instant at which rules are judged (or a `step`).

    By default over twice the limit's duration and a minute, until now. Columns: the labels (categorical), at (UTC),
    value (in the limit's unit), idle (nothing happened that could be measured: NaN is no gap in knowledge).
    Errors: NoData where no series has the signal, which is not a value of 0; InputError.
    """
    if limit.name not in Signals.model_fields:
        raise InputError(f"{limit.name} is not judged by Prometheus", hint=f"one of {', '.join(Signals.model_fields)}")
    step = step or prometheus.access.step
    seconds = 2 * limit.duration_seconds + SLACK_SECONDS + 2 * duration_seconds(step)
    window = window or Window.parse(duration_text(seconds))
    query = prometheus.settings.promql(limit.name)
    frame = _plain(_none(prometheus.range(query, window, step), limit.name, prometheus, _called(limit.name)))
    frame["idle"] = False
    if limit.name in _IDLE and frame["value"].isna().any():
        quiet = prometheus.range(prometheus.promql(_IDLE[limit.name]), window, step)
        pairs = pd.MultiIndex.from_frame(_columns(quiet, ["instance"], at="at"))
        frame["idle"] = frame["value"].isna() & pd.MultiIndex.from_frame(_columns(frame, ["instance"], at="at")).isin(
            pairs
        )
    return frame


def _called(name: str) -> str:
    return f"signals.{name}" if name in Signals.model_fields else f"metrics.{name}"


def _metric(prometheus: Prometheus, template: str, metric: str) -> DataFrame:
    return _some(prometheus, prometheus.promql(template), metric, "its name in [metrics] of the settings")


def _some(prometheus: Prometheus, query: str, metric: str, setting: str, at: datetime | None = None) -> DataFrame:
    return _none(prometheus.instant(query, at), metric, prometheus, setting)


def _none(frame: DataFrame, metric: str, prometheus: Prometheus, setting: str) -> DataFrame:
    """`frame`, unless it is empty: Prometheus answers "success" with nothing for what does not exist."""
    if frame.empty:
        raise NoData(
            f"no series of {metric} in Prometheus (that is not a 0)",
            on=prometheus.url,
            hint=f"are the targets up (monitoring.targets), and is it called so here: {setting}",
        )
    return frame


def _plain(frame: DataFrame) -> DataFrame:
    """Without the metric's name, which is the same in every row."""
    return frame.drop(columns="__name__", errors="ignore")


def _columns(frame: DataFrame, labels: Sequence[str], **named: str) -> DataFrame:
    """The labels as text ("" where there is no such label), and columns under their names here."""
    made = {label: frame[label].astype("str") if label in frame else "" for label in labels}
    return pd.DataFrame({**made, **{new: frame[old] for new, old in named.items()}}, index=frame.index)
