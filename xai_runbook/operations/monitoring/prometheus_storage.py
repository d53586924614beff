"""Whether Prometheus' storage is sound, keeps what it is given, does not outgrow its memory, and passes it on.

Asked of its own metrics page, which answers also when its storage does not. Its counters begin with its process; what
it had scraped of itself a while ago tells how much of them is recent. Source: Prometheus docs, Storage, Remote write.
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
    """How often writing, reading or tidying its storage failed, over the window that the settings call trouble.

    One row a counter: damaged write-ahead log, chunks and blocks, failed compactions, truncations, checkpoints.
    Columns: target (the counter), faults (count), since (UTC: that window's start; the server's own start where that is
    later, or where it has not scraped itself for as long), in_all (count since its start).
    Errors: NoData where the page has no such counter.
    """
    return _counted(prometheus, _STORAGE, "faults")


def rejected_samples(prometheus: Prometheus) -> DataFrame:
    """How many samples it was given and did not keep, over the window that the settings call trouble.

    One row a counter: out of order, twice for one time, out of bounds, too old, over a limit. Columns as for
    `storage_faults`, with samples (count). Errors: NoData where the page has no such counter.
    """
    return _counted(prometheus, _REJECTED, "samples")


def check_storage(storage_faults: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists what failed in the storage."""
    return judge(limit, storage_faults, value="faults", target="target", noun=f"faults {_since(storage_faults)}")


def check_rejected(rejected_samples: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists why samples were not kept."""
    noun = f"samples rejected {_since(rejected_samples)}"
    return judge(limit, rejected_samples, value="samples", target="target", noun=noun)


def series(prometheus: Prometheus) -> DataFrame:
    """How many series it holds in memory, and how many more than a window (the settings' scrapes) ago; one row.

    Columns: target, series (count), before (count; NaN where it does not know), growth_ratio (0.5: half as many again),
    error (why it does not know), young (it has not run for two such windows, and was still filling one ago).
    """
    page = prometheus.own_metrics().set_index("name")["value"]
    if not {"prometheus_tsdb_head_series", "process_start_time_seconds"} <= set(page.index):
        raise NoData("its metrics do not count its series", on=prometheus.url, hint="is it an agent, or a proxy?")
    now, started, before = (
        float(page["prometheus_tsdb_head_series"]),
        float(page["process_start_time_seconds"]),
        math.nan,
    )
    told = prometheus.instant(_of_itself(prometheus, "prometheus_tsdb_head_series", "scrapes", started))
    if not told.empty:
        before = float(told["value"].iloc[0])
    span = prometheus.settings.windows.scrapes
    young = time.time() - started < 2 * duration_seconds(span)
    grown = now / before - 1 if before > 0 else math.nan
    error = "" if grown == grown else f"it does not scrape itself, or did not yet {span} ago"
    row = {"target": prometheus.url, "series": now, "before": before, "growth_ratio": grown, "error": error}
    return pd.DataFrame([{**row, "young": young}])


def check_growth(series: DataFrame, limit: Limit) -> Finding:
    """`alert` where the series in memory have multiplied: memory follows. A server that was still filling is `ok`."""
    row = series.iloc[0]
    held = f"{quantity(row['series'], 'series')} in memory"
    if row["young"]:
        words = f"{held}; it started too recently to measure their growth"
        return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=words, hint=limit.hint)
    finding = judge(limit, series, value="growth_ratio", target="target", noun="more series than before")
    return finding if finding.status is Status.UNKNOWN else replace(finding, summary=f"{finding.summary}; {held}")


def remote_write(prometheus: Prometheus) -> DataFrame:
    """How far behind each remote write queue is; an empty frame where it sends to nowhere.

    Columns: target (the queue's name; never its address, which may hold a password), lag_seconds (newest sample taken
    in less newest sample sent; for one that never sent, since the server's start), pending, failed (samples).
    """
    page = prometheus.own_metrics()
    if not page["name"].str.startswith("prometheus_").any():
        raise NoData("its metrics page has no Prometheus metrics", on=prometheus.url, hint="is a proxy in between?")
    one = page.drop_duplicates("name").set_index("name")["value"]
    newest = one.get("prometheus_remote_storage_highest_timestamp_in_seconds", math.nan)
    started = one.get("process_start_time_seconds", math.nan)
    rows = []
    for labels in page.loc[page["name"] == "prometheus_remote_storage_shards", "labels"]:
        # one that has never sent anything has no such metric yet
        sent = _of_queue(page, "prometheus_remote_storage_queue_highest_sent_timestamp_seconds", labels)
        rows.append(
            {
                "target": _label(labels, "remote_name") or "remote write",
                "lag_seconds": float(np.maximum(newest - (sent or started), 0.0)),  # NaN stays NaN
                "pending": _of_queue(page, "prometheus_remote_storage_samples_pending", labels),
                "failed": _of_queue(page, "prometheus_remote_storage_samples_failed_total", labels),
            }
        )
    return pd.DataFrame(rows, columns=["target", "lag_seconds", "pending", "failed"])


def check_remote_write(remote_write: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists the queues that lag; `ok` where nothing is sent anywhere, which is said."""
    if remote_write.empty:
        words = "no remote write is configured"
        return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=words, hint=limit.hint)
    return judge(limit, remote_write, value="lag_seconds", target="target", noun="seconds behind")


def _counted(prometheus: Prometheus, pattern: str, unit: str) -> DataFrame:
    """The counters of its own page, less what it had scraped of them before the window began."""
    page = prometheus.own_metrics()
    now = page[page["name"].str.fullmatch(pattern)]
    start = page.loc[page["name"] == "process_start_time_seconds", "value"]
    if now.empty or start.empty:
        raise NoData("its metrics page has none of these counters", on=prometheus.url, hint="is a proxy in between?")
    started = float(start.iloc[0])
    told = prometheus.instant(_of_itself(prometheus, "{__name__=~" + quoted(pattern) + "}", "trouble", started))
    own = {name: _names(labels) for name, labels in now.groupby("name")["labels"]}
    before = {
        (row["__name__"], label_text({name: row[name] for name in own.get(row["__name__"], ()) if row.get(name)})): row[
            "value"
        ]
        for row in told.to_dict("records")
    }
    span = duration_seconds(prometheus.settings.windows.trouble)
    rows = []
    for name, labels, value in now[["name", "labels", "value"]].itertuples(index=False):
        counted = before.get((name, labels))
        rows.append(
            {
                "target": f"{name.removeprefix('prometheus_').removesuffix('_total')} {labels}".strip(),
                unit: value if counted is None else value - counted,
                "since": datetime.fromtimestamp(started if counted is None else time.time() - span, UTC),
                "in_all": value,
            }
        )
    return pd.DataFrame(rows)


def _of_itself(prometheus: Prometheus, selector: str, span: str, started: float) -> str:
    """PromQL of what the very process that started then had scraped of itself one window ago."""
    template = selector + " offset ${SPAN} and on (job, instance) (process_start_time_seconds offset ${SPAN} == "
    return prometheus.promql(template.replace("SPAN", span + "_window") + repr(started) + ")")


def _since(counted: DataFrame) -> str:
    return f"since {counted['since'].min():%Y-%m-%d %H:%M} UTC"


def _names(labels: Iterable[str]) -> set[str]:
    """Which labels a counter has on the page itself; a scrape adds its target's (job, instance, and whatever else)."""
    return {part.partition("=")[0] for text in labels for part in text.split(", ") if part}


def _label(labels: str, name: str) -> str:
    return next((part.partition("=")[2] for part in labels.split(", ") if part.startswith(f"{name}=")), "")


def _of_queue(page: DataFrame, name: str, labels: str) -> float:
    return float(page.loc[(page["name"] == name) & (page["labels"] == labels), "value"].sum())
