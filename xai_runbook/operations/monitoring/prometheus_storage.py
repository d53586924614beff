"""Prometheus' storage: failures, rejected samples, growth of its series, remote write.

Read from Prometheus' own metrics page, which works even when its storage does not. The counters there start with the
process; what Prometheus scraped from itself a while ago shows how much of them is recent.
Source: Prometheus docs, Storage, Remote write.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xai_runbook.clients.prometheus.answers import label_text
from xai_runbook.clients.prometheus.client import quoted
from xai_runbook.errors import NoData
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.units import quantity
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus

_STORAGE = r"prometheus_tsdb_\w*(?:failed|failures|corruptions|errors?)_total"
_REJECTED = (
    r"prometheus_tsdb_(?:out_of_order|out_of_bound|too_old)_samples_total"
    r"|prometheus_target_scrapes?_(?:sample_(?:out_of_order|out_of_bounds|duplicate_timestamp)|\w*exceeded_\w+)_total"
)


def storage_faults(prometheus: Prometheus) -> DataFrame:
    """Return how often storage operations failed, over the settings' window `trouble`.

    One row per counter: corruptions of the write-ahead log, chunks and blocks, failed compactions, truncations,
    checkpoints. Columns: target (the counter), faults (count), since (UTC: the start of the window; the start of the
    server if that is later or if it has not scraped itself that long), total (count since the server's start).
    Errors: NoData if the page has no such counter.
    """
    return _counted(prometheus, _STORAGE, "faults")


def rejected_samples(prometheus: Prometheus) -> DataFrame:
    """Return how many scraped samples were rejected, over the settings' window `trouble`.

    One row per counter: out of order, duplicate timestamp, out of bounds, too old, over a limit. Columns as in
    `storage_faults`, with samples (count) for faults. Errors: NoData if the page has no such counter.
    """
    return _counted(prometheus, _REJECTED, "samples")


def check_storage(storage_faults: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the storage counters with failures."""
    return judge(limit, storage_faults, value="faults", target="target", noun=f"faults {_since(storage_faults)}")


def check_rejected_samples(rejected_samples: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the reasons for which samples were rejected."""
    noun = f"samples rejected {_since(rejected_samples)}"
    return judge(limit, rejected_samples, value="samples", target="target", noun=noun)


def head_series(prometheus: Prometheus) -> DataFrame:
    """Return one row with the number of series in memory, and their growth over the settings' window `scrapes`.

    Columns: target, series (count), before (count one window ago; NaN if unknown), growth_ratio (0.5: 50 % more), error
    (why it is unknown), young (bool: it started less than two windows ago and was still filling up one window ago).
    Errors: NoData if its metrics page does not show the number of series.
    """
    page = prometheus.own_metrics().set_index("name")["value"]
    if not {"prometheus_tsdb_head_series", "process_start_time_seconds"} <= set(page.index):
        raise NoData("its metrics do not count its series", on=prometheus.url, hint="is it an agent, or a proxy?")
    now, started = float(page["prometheus_tsdb_head_series"]), float(page["process_start_time_seconds"])
    earlier = prometheus.instant(_self_scraped(prometheus, "prometheus_tsdb_head_series", "scrapes", started))
    before = math.nan if earlier.empty else float(earlier["value"].iloc[0])
    span = prometheus.settings.windows.scrapes
    young = time.time() - started < 2 * duration_seconds(span)
    growth = now / before - 1 if before > 0 else math.nan
    error = "" if not math.isnan(growth) else f"it does not scrape itself, or did not yet {span} ago"
    row = {"target": prometheus.url, "series": now, "before": before, "growth_ratio": growth, "error": error}
    return pd.DataFrame([{**row, "young": young}])


def check_series_growth(head_series: DataFrame, limit: Limit) -> Finding:
    """Return an alert if the series in memory, and with them its memory, grow too fast; ok for a young server."""
    row = head_series.iloc[0]
    count = f"{quantity(row['series'], 'series')} in memory"
    if row["young"]:
        summary = f"{count}; it started too recently to measure their growth"
        return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=summary, hint=limit.hint)
    finding = judge(limit, head_series, value="growth_ratio", target="target", noun="more series than before")
    return finding if finding.status is Status.UNKNOWN else replace(finding, summary=f"{finding.summary}; {count}")


def remote_write(prometheus: Prometheus) -> DataFrame:
    """Return how far behind each remote write queue is; empty if remote write is not configured.

    Columns: target (the queue's name, not its URL, which may contain a password), lag_seconds (newest sample ingested
    minus newest sample sent; since the server's start if it has never sent), pending, failed (samples).
    Errors: NoData if the page has no Prometheus metrics.
    """
    page = prometheus.own_metrics()
    if not page["name"].str.startswith("prometheus_").any():
        raise NoData("its metrics page has no Prometheus metrics", on=prometheus.url, hint="is a proxy in between?")
    values = page.drop_duplicates("name").set_index("name")["value"]
    newest = values.get("prometheus_remote_storage_highest_timestamp_in_seconds", math.nan)
    started = values.get("process_start_time_seconds", math.nan)
    rows = []
    for labels in page.loc[page["name"] == "prometheus_remote_storage_shards", "labels"]:
        # 0 for a queue that has never sent anything: it has no such metric yet
        sent = _queue_value(page, "prometheus_remote_storage_queue_highest_sent_timestamp_seconds", labels)
        rows.append(
            {
                "target": _label(labels, "remote_name") or "remote write",
                "lag_seconds": float(np.maximum(newest - (sent or started), 0.0)),  # NaN stays NaN
                "pending": _queue_value(page, "prometheus_remote_storage_samples_pending", labels),
                "failed": _queue_value(page, "prometheus_remote_storage_samples_failed_total", labels),
            }
        )
    return pd.DataFrame(rows, columns=["target", "lag_seconds", "pending", "failed"])


def check_remote_write(remote_write: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the queues that are too far behind; ok if remote write is not configured."""
    if remote_write.empty:
        summary = "no remote write is configured"
        return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=summary, hint=limit.hint)
    return judge(limit, remote_write, value="lag_seconds", target="target", noun="seconds behind")


def _counted(prometheus: Prometheus, pattern: str, unit: str) -> DataFrame:
    """Return the matching counters of the metrics page, minus their values at the start of the window."""
    page = prometheus.own_metrics()
    now = page[page["name"].str.fullmatch(pattern)]
    start = page.loc[page["name"] == "process_start_time_seconds", "value"]
    if now.empty or start.empty:
        raise NoData("its metrics page has none of these counters", on=prometheus.url, hint="is a proxy in between?")
    started = float(start.iloc[0])
    scraped = prometheus.instant(_self_scraped(prometheus, "{__name__=~" + quoted(pattern) + "}", "trouble", started))
    own_labels = {name: _names(labels) for name, labels in now.groupby("name")["labels"]}
    before = {}
    for row in scraped.to_dict("records"):
        counter = row["__name__"]
        labels = label_text({name: row[name] for name in own_labels.get(counter, ()) if row.get(name)})
        before[counter, labels] = row["value"]
    span = duration_seconds(prometheus.settings.windows.trouble)
    rows = []
    for name, labels, value in now[["name", "labels", "value"]].itertuples(index=False):
        earlier = before.get((name, labels))
        rows.append(
            {
                "target": f"{name.removeprefix('prometheus_').removesuffix('_total')} {labels}".strip(),
                unit: value if earlier is None else value - earlier,
                "since": datetime.fromtimestamp(started if earlier is None else time.time() - span, UTC),
                "total": value,
            }
        )
    return pd.DataFrame(rows)


def _self_scraped(prometheus: Prometheus, selector: str, span: str, started: float) -> str:
    """Return PromQL for what the process that started then had scraped from itself one window ago."""
    template = selector + " offset ${SPAN} and on (job, instance) (process_start_time_seconds offset ${SPAN} == "
    return prometheus.promql(template.replace("SPAN", span + "_window") + repr(started) + ")")


def _since(counted: DataFrame) -> str:
    return f"since {counted['since'].min():%Y-%m-%d %H:%M} UTC"


def _names(labels: Iterable[str]) -> set[str]:
    """Return the label names that a counter has on the page; a scrape adds those of the target, such as job."""
    return {part.partition("=")[0] for text in labels for part in text.split(", ") if part}


def _label(labels: str, name: str) -> str:
    return next((part.partition("=")[2] for part in labels.split(", ") if part.startswith(f"{name}=")), "")


def _queue_value(page: DataFrame, name: str, labels: str) -> float:
    return float(page.loc[(page["name"] == name) & (page["labels"] == labels), "value"].sum())
