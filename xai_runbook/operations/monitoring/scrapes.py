"""Prometheus' scrapes: targets that have vanished, scrapes that take too long.

A target that is down has `up` 0 and is reported by the limit `targets_up`. A target that vanished from the
configuration or from service discovery has no `up` at all, so no alert reports it.
Source: Prometheus docs, Jobs and Instances.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from xai_runbook.errors import NoData, inert
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus

_BY = ["job", "instance"]
_LAST = "max_over_time(timestamp(up)[${scrapes_window}:30s])"


def scrapes(prometheus: Prometheus) -> DataFrame:
    """Return every target that was scraped within the settings' window `scrapes`, vanished ones first.

    Columns: job, instance, scraped (1; 0 if it has vanished), scrapes (count in the window), last_at (UTC: the last
    scrape of a vanished target, to 30 s; else NaT), scrape_seconds (mean over the window `rate`), timeout_seconds (the
    settings' step if Prometheus is older than 2.26 and does not report it), used_ratio (scrape_seconds /
    timeout_seconds), error (of the last scrape).
    Errors: NoData if nothing was scraped.
    """
    counted = prometheus.instant(prometheus.promql("count_over_time(up[${scrapes_window}])"))
    if counted.empty:
        raise NoData(
            f"nothing was scraped within {prometheus.settings.windows.scrapes}",
            on=prometheus.url,
            hint="check scrape_configs in prometheus.yml and the page Status, Targets of Prometheus",
        )
    at = counted["at"].iloc[0]
    last_scrapes = _by_target(prometheus.instant("timestamp(up)", at), "last")
    durations = prometheus.instant(prometheus.promql("avg_over_time(scrape_duration_seconds[${rate_window}])"), at)
    active = prometheus.active_targets().drop_duplicates(_BY).set_index(_BY)
    frame = _by_target(counted, "scrapes").to_frame()
    # after a whole job was removed, Prometheus returns its last `up` for the lookback; federated series have no target
    fresh = last_scrapes[last_scrapes >= at.timestamp() - duration_seconds(prometheus.settings.windows.rate)]
    present = last_scrapes.index
    if len(active):  # a server that has just started lists no targets yet
        present = present.intersection(active.index).union(fresh.index)
    frame["scraped"] = frame.index.isin(present).astype(float)
    last = last_scrapes.reindex(frame.index)
    if last.isna().any():
        last = last.fillna(_by_target(prometheus.instant(prometheus.promql(_LAST), at), "last"))
    frame["last_at"] = pd.to_datetime(last.where(frame["scraped"] == 0) * 1000, unit="ms", utc=True)
    frame["scrape_seconds"] = _by_target(durations, "seconds").where(frame["scraped"] == 1).reindex(frame.index)
    frame["timeout_seconds"] = active["timeout_seconds"].reindex(frame.index).astype(float)
    frame["timeout_seconds"] = frame["timeout_seconds"].fillna(duration_seconds(prometheus.access.step))
    frame["used_ratio"] = frame["scrape_seconds"] / frame["timeout_seconds"]
    frame["error"] = active["error"].reindex(frame.index).fillna("")
    columns = [
        *_BY, "scraped", "scrapes", "last_at", "scrape_seconds", "timeout_seconds", "used_ratio", "error",
    ]  # fmt: skip
    return frame.reset_index().sort_values(["scraped", *_BY], ignore_index=True)[columns]


def check_vanished_targets(scrapes: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the targets that were scraped within the window but no longer are."""
    finding = judge(limit, _with_names(scrapes), value="scraped", target="target", noun="answers")
    gone = scrapes[scrapes["scraped"] == 0]
    if finding.status is not Status.ALERT:
        return replace(finding, summary=f"all {len(scrapes)} recently scraped targets are still scraped")
    texts = [
        f"{target} (last at {at:%H:%M:%S} UTC)" if at is not pd.NaT else target
        for target, at in zip(_with_names(gone)["target"], gone["last_at"], strict=True)
    ]
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return replace(finding, summary=inert(f"no longer scraped: {', '.join(texts[:3])}{more}"))


def check_scrape_time(scrapes: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the targets whose scrapes take almost as long as their timeout."""
    present = _with_names(scrapes[scrapes["scraped"] == 1])
    return judge(limit, present, value="used_ratio", target="target", noun="of the scrape timeout")


def _by_target(frame: DataFrame, name: str) -> pd.Series[float]:
    """Return the values by job and instance; of duplicates the first."""
    labels = [frame[label].astype("str") if label in frame else pd.Series("", frame.index) for label in _BY]
    index = pd.MultiIndex.from_arrays(labels, names=_BY)
    series = pd.Series(frame["value"].to_numpy(), index=index, name=name, dtype=float)
    return series[~series.index.duplicated()]


def _with_names(scrapes: DataFrame) -> DataFrame:
    return scrapes.assign(target=scrapes["instance"].where(scrapes["instance"] != "", scrapes["job"]))
