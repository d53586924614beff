"""Whether Prometheus comes round to what it scrapes: targets that have vanished, scrapes that take too long.

A target that is down has `up` 0 and is named by `targets_up`. One that vanished from the configuration or from service
discovery has no `up` at all, and no row of the alert table speaks of it. Source: Prometheus docs, Jobs and Instances.
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
    """Every target that was scraped within the window that the settings call scrapes, those that vanished first.

    Columns: job, instance, scraped (1, or 0 where it is scraped no more), scrapes (count in that window), last_at (UTC,
    to half a minute; NaT where it is scraped still), scrape_seconds (mean over the window rate), timeout_seconds (where
    it is not told, as before version 2.26, the settings' step), used_ratio (scrape_seconds of it), error (of the last
    scrape).
    Errors: NoData where nothing was scraped at all.
    """
    counted = prometheus.instant(prometheus.promql("count_over_time(up[${scrapes_window}])"))
    if counted.empty:
        raise NoData(
            f"nothing was scraped within {prometheus.settings.windows.scrapes}",
            on=prometheus.url,
            hint="check scrape_configs in prometheus.yml and the page Status, Targets of Prometheus",
        )
    at = counted["at"].iloc[0]
    heard = _by_target(prometheus.instant("timestamp(up)", at), "heard")
    took = prometheus.instant(prometheus.promql("avg_over_time(scrape_duration_seconds[${rate_window}])"), at)
    told = prometheus.active_targets().drop_duplicates(_BY).set_index(_BY)
    frame = _by_target(counted, "scrapes").to_frame()
    # of a whole job that was taken out, Prometheus repeats the last `up` for its lookback; a federated one is no target
    fresh = heard[heard >= at.timestamp() - duration_seconds(prometheus.settings.windows.rate)]
    kept = heard.index.intersection(told.index).union(fresh.index) if len(told) else heard.index  # none told: starting
    frame["scraped"] = frame.index.isin(kept).astype(float)
    last = heard.reindex(frame.index)
    if last.isna().any():
        last = last.fillna(_by_target(prometheus.instant(prometheus.promql(_LAST), at), "last"))
    frame["last_at"] = pd.to_datetime(last.where(frame["scraped"] == 0) * 1000, unit="ms", utc=True)
    frame["scrape_seconds"] = _by_target(took, "took").where(frame["scraped"] == 1).reindex(frame.index)
    frame["timeout_seconds"] = told["timeout_seconds"].reindex(frame.index).astype(float)
    frame["timeout_seconds"] = frame["timeout_seconds"].fillna(duration_seconds(prometheus.access.step))
    frame["used_ratio"] = frame["scrape_seconds"] / frame["timeout_seconds"]
    frame["error"] = told["error"].reindex(frame.index).fillna("")
    columns = [
        *_BY, "scraped", "scrapes", "last_at", "scrape_seconds", "timeout_seconds", "used_ratio", "error",
    ]  # fmt: skip
    return frame.reset_index().sort_values(["scraped", *_BY], ignore_index=True)[columns]


def check_vanished(scrapes: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists the targets which were scraped in the window and are scraped no more."""
    finding = judge(limit, _called(scrapes), value="scraped", target="target", noun="answers")
    gone = scrapes[scrapes["scraped"] == 0]
    if finding.status is not Status.ALERT:
        return replace(finding, summary=f"all {len(scrapes)} recently scraped targets are still scraped")
    named = [
        f"{target} (last at {at:%H:%M:%S} UTC)" if at is not pd.NaT else target
        for target, at in zip(_called(gone)["target"], gone["last_at"], strict=True)
    ]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return replace(finding, summary=inert(f"no longer scraped: {', '.join(named[:3])}{more}"))


def check_scrape_time(scrapes: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists the targets whose scrapes nearly take up their timeout: soon they fail."""
    here = _called(scrapes[scrapes["scraped"] == 1])
    return judge(limit, here, value="used_ratio", target="target", noun="of the scrape timeout")


def _by_target(frame: DataFrame, name: str) -> pd.Series[float]:
    """The answer's values by job and instance; the first of those that share both."""
    labels = [frame[label].astype("str") if label in frame else pd.Series("", frame.index) for label in _BY]
    index = pd.MultiIndex.from_arrays(labels, names=_BY)
    series = pd.Series(frame["value"].to_numpy(), index=index, name=name, dtype=float)
    return series[~series.index.duplicated()]


def _called(scrapes: DataFrame) -> DataFrame:
    return scrapes.assign(target=scrapes["instance"].where(scrapes["instance"] != "", scrapes["job"]))
