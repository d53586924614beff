"""The requests that the nodes answer: how long they take, how many fail, where the time goes.

Durations are a histogram, classic (buckets, from which quantiles are interpolated) or native (one series that has them
all, from Prometheus 2.40 on); whichever is there is asked. Source: runbook, Slow API Response, which asks for the
histogram's own name: of a classic one there is no such series (errata E63).
"""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xai_runbook.errors import InputError
from xai_runbook.model.window import Window
from xai_runbook.operations.monitoring._series import columns, existing, metric, widened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame, Series

    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.model.findings import Limit

_BY = ["instance", "route"]
_BUCKETS = "sum by (instance, ${route_label}, le) (rate(${request_seconds}_bucket[${requests_window}]))"
_NATIVE = "sum by (instance, ${route_label}) (rate(${request_seconds}[${requests_window}]))"
TOLERATED = 4.0
"""Apdex: whoever waits up to four times the limit is half content."""


def request_latency(prometheus: Prometheus, quantiles: Sequence[float] = (0.5, 0.95, 0.99)) -> DataFrame:
    """How long requests take, by instance and route, over the window that the settings call requests.

    Columns: instance, route, quantile (0 to 1), seconds (NaN where there were no requests), requests_per_second,
    in_last_bucket (the quantile lies beyond the last finite bucket: seconds is only the least it can be).
    Errors: NoData where there is no histogram; InputError. Source: errata E63.
    """
    if not quantiles or not all(0 <= quantile <= 1 for quantile in quantiles):
        raise InputError(f"invalid quantiles {list(quantiles)}", hint="numbers from 0 to 1, such as 0.95")
    buckets = _buckets(prometheus)
    if buckets.empty:
        query, counts = prometheus.promql(_NATIVE), _native(prometheus, "histogram_count(" + _NATIVE + ")")
        about = counts.set_index(_BY)[["value"]].rename(columns={"value": "requests_per_second"}).assign(last=np.inf)
        at = counts["at"].iloc[0]
    else:
        query, at, group = prometheus.promql(_BUCKETS), buckets["at"].iloc[0], buckets.groupby(_BY)
        finite = buckets[np.isfinite(buckets["bound"])].groupby(_BY)["bound"].max()
        about = pd.DataFrame(
            {
                "requests_per_second": buckets[np.isposinf(buckets["bound"])].set_index(_BY)["value"],
                "last": finite.reindex(group.size().index),
            }
        )
    answers = []
    for quantile in quantiles:
        asked = prometheus.instant("histogram_quantile(" + repr(float(quantile)) + ", " + query + ")", at)
        answers.append(_by_route(prometheus, asked, seconds="value").assign(quantile=float(quantile)))
    frame = pd.concat(answers, ignore_index=True).join(about, on=_BY)
    frame["in_last_bucket"] = frame["seconds"] >= frame["last"]
    frame = frame.sort_values([*_BY, "quantile"], ignore_index=True)
    return frame[[*_BY, "quantile", "seconds", "requests_per_second", "in_last_bucket"]]


def apdex(prometheus: Prometheus, limit: Limit) -> DataFrame:
    """The share of requests that were answered within a limit's seconds, by instance and route, the worst first.

    Columns: instance, route, requests_per_second, within_ratio (within the limit), tolerated_ratio (within four times
    it), apdex (within and half of the rest that is tolerated; 0 to 1), exact (False where the limit is no bound of a
    bucket, so that the share was interpolated as quantiles are). Ratios are NaN where there were no requests.
    Errors: NoData where there is no histogram; InputError for a limit that is none of time.
    Source: the Apdex specification, which calls the two thresholds T and 4T.
    """
    if limit.unit != "seconds" or limit.threshold <= 0:
        raise InputError(f"{limit.name} is not a limit in seconds", hint="use env.limits.troubleshooting.api_latency")
    buckets = _buckets(prometheus)
    bounds = (limit.threshold, TOLERATED * limit.threshold)
    if buckets.empty:
        frame = _native(prometheus, "histogram_count(" + _NATIVE + ")")
        frame = frame.rename(columns={"value": "requests_per_second"})
        for name, bound in zip(("within_ratio", "tolerated_ratio"), bounds, strict=True):
            query = "histogram_fraction(0, " + repr(bound) + ", " + _NATIVE + ")"
            asked = _by_route(prometheus, prometheus.instant(prometheus.promql(query), frame["at"].iloc[0]))
            frame = frame.merge(asked.rename(columns={"value": name}).drop(columns="at"), how="left", on=_BY)
        frame["exact"] = False
    else:
        rows = []
        for (instance, route), group in buckets.sort_values("bound").groupby(_BY):
            known, counted = group["bound"].to_numpy(), group["value"].to_numpy()
            total = counted[-1] if np.isposinf(known[-1]) and counted[-1] > 0 else np.nan
            finite = np.isfinite(known)
            shares = np.interp(bounds, np.append(0.0, known[finite]), np.append(0.0, counted[finite])) / total
            shares[np.array(bounds) > known[finite].max(initial=0.0)] = (
                np.nan
            )  # beyond the last bucket nothing is known
            rows.append(
                [instance, route, counted[-1], *shares, limit.threshold in known],
            )
        named = [*_BY, "requests_per_second", "within_ratio", "tolerated_ratio", "exact"]
        frame = pd.DataFrame(rows, columns=named)
    frame["apdex"] = (frame["within_ratio"] + frame["tolerated_ratio"]) / 2
    frame = frame.sort_values(["within_ratio", *_BY], ignore_index=True)
    return frame[[*_BY, "requests_per_second", "within_ratio", "tolerated_ratio", "apdex", "exact"]]


def time_spent(prometheus: Prometheus) -> DataFrame:
    """Where the time goes: each route over all nodes, the one that takes most of it first.

    Columns: route, busy_seconds (of answering, a second), share_ratio (of all routes), requests_per_second,
    mean_seconds (NaN where there were no requests). Errors: NoData where there is no histogram.
    """
    sums = prometheus.instant(
        prometheus.promql("sum by (${route_label}) (rate(${request_seconds}_sum[${requests_window}]))")
    )
    if sums.empty:
        native = "(sum by (${route_label}) (rate(${request_seconds}[${requests_window}])))"
        sums = _native(prometheus, "histogram_sum" + native)
        counts = prometheus.instant(prometheus.promql("histogram_count" + native), sums["at"].iloc[0])
    else:
        counts = prometheus.instant(
            prometheus.promql("sum by (${route_label}) (rate(${request_seconds}_count[${requests_window}]))"),
            sums["at"].iloc[0],
        )
    frame = _by_route(prometheus, sums, busy_seconds="value")[["route", "busy_seconds"]]
    asked = _by_route(prometheus, counts, requests_per_second="value").set_index("route")["requests_per_second"]
    frame["share_ratio"] = frame["busy_seconds"] / (frame["busy_seconds"].sum() or np.nan)
    frame["requests_per_second"] = frame["route"].map(asked).astype(float)
    frame["mean_seconds"] = frame["busy_seconds"] / frame["requests_per_second"].where(frame["requests_per_second"] > 0)
    return frame.sort_values(["busy_seconds", "route"], ascending=[False, True], ignore_index=True)


def answers(prometheus: Prometheus) -> DataFrame:
    """How many requests were answered with which class of status, by instance.

    Columns: instance, status_class ("2xx"; "other" for what is no HTTP status), requests_per_second, share_ratio (of
    the instance's; NaN where there were none). Errors: NoData where no requests are counted at all.
    """
    name, label = prometheus.settings.metrics.requests, prometheus.settings.metrics.status_label
    asked = metric(prometheus, "sum by (instance, ${status_label}) (rate(${requests}[${requests_window}]))", name)
    frame = columns(asked, ["instance", label], requests_per_second="value")
    frame["status_class"] = _status_class(frame[label])
    whole = frame.groupby(["instance", "status_class"])["requests_per_second"].sum().reset_index()
    total = whole.groupby("instance")["requests_per_second"].transform("sum")
    return whole.assign(share_ratio=whole["requests_per_second"] / total.where(total > 0))


def error_rate(prometheus: Prometheus) -> DataFrame:
    """How many requests fail, by instance, over the window that the settings call requests.

    Columns: instance, requests_per_second, errors_per_second (answers 500 to 599; one that never occurred has no
    series, and with requests counted that is 0), error_ratio (0 to 1, of those whose status is known; both are NaN
    where there were none of these).
    Errors: NoData where no requests are counted at all. Source: runbook, Alert Thresholds, API Errors.
    """
    told = answers(prometheus)
    frame = told.groupby("instance")["requests_per_second"].sum().reset_index()
    failed = told[told["status_class"] == "5xx"].set_index("instance")["requests_per_second"]
    known = told[told["status_class"] != "other"].groupby("instance")["requests_per_second"].sum()
    counted = frame["instance"].map(known).astype(float)  # none at all: the status has a label of another name
    frame["errors_per_second"] = frame["instance"].map(failed).astype(float).fillna(0.0).where(counted.notna())
    frame["error_ratio"] = frame["errors_per_second"] / counted.where(counted > 0)
    return frame


def latency_history(
    prometheus: Prometheus, window: Window | str | None = None, quantiles: Sequence[float] = (0.5, 0.95, 0.99)
) -> DataFrame:
    """Quantiles of all requests together over a window, for a chart: about 500 points each.

    Columns: quantile ("p50", categorical), at (UTC), value (seconds; NaN where there were no requests).
    Errors: NoData where there is no histogram; InputError.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    words, parts = widened(prometheus, window).template_variables, []
    for quantile in quantiles:
        if not 0 <= quantile <= 1:
            raise InputError(f"{quantile} is not a quantile", hint="a number from 0 to 1, such as 0.95")
        head = "histogram_quantile(" + repr(float(quantile)) + ", "
        classic = head + "sum by (le) (rate(${request_seconds}_bucket[${requests_window}])))"
        native = head + "sum(rate(${request_seconds}[${requests_window}])))"
        part = prometheus.range(Template(classic + " or " + native).substitute(words), window)
        parts.append(part[["at", "value"]].assign(quantile=f"p{100 * quantile:g}"))
    name = prometheus.settings.metrics.request_seconds
    frame = existing(pd.concat(parts, ignore_index=True), name, prometheus, "metrics.request_seconds")
    return frame.astype({"quantile": "category"})[["quantile", "at", "value"]]


def traffic_history(prometheus: Prometheus, window: Window | str | None = None) -> DataFrame:
    """Requests a second by class of status over a window, for a chart: about 500 points each.

    Columns: status_class ("2xx", categorical), at (UTC), value (requests a second). Errors: NoData, InputError.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    metrics, words = prometheus.settings.metrics, widened(prometheus, window).template_variables
    query = Template("sum by (${status_label}) (rate(${requests}[${requests_window}]))").substitute(words)
    told = existing(prometheus.range(query, window), metrics.requests, prometheus, "metrics.requests")
    frame = columns(told, [metrics.status_label], at="at", value="value")
    frame["status_class"] = _status_class(frame[metrics.status_label])
    whole = frame.groupby(["status_class", "at"])["value"].sum().reset_index()
    return whole.astype({"status_class": "category"})


def _status_class(status: Series[str]) -> Series[str]:
    return (status.str[:1] + "xx").where(status.str.fullmatch("[1-5][0-9][0-9]"), "other")


def _buckets(prometheus: Prometheus) -> DataFrame:
    """The buckets' rates with their bounds; an empty frame where there is no classic histogram."""
    told = prometheus.instant(prometheus.promql(_BUCKETS))
    if told.empty:
        return told
    frame = _by_route(prometheus, told).assign(le=told["le"].astype("str"))
    return frame.assign(bound=frame["le"].astype(float))


def _native(prometheus: Prometheus, template: str) -> DataFrame:
    """What PromQL over the native histogram is, where there is no classic one. Errors: NoData for neither."""
    name, setting = prometheus.settings.metrics.request_seconds, "metrics.request_seconds, classic or native"
    return _by_route(prometheus, existing(prometheus.instant(prometheus.promql(template)), name, prometheus, setting))


def _by_route(prometheus: Prometheus, frame: DataFrame, **named: str) -> DataFrame:
    """Instance, route (whatever the label is called) and the values."""
    label = prometheus.settings.metrics.route_label
    made = columns(frame, ["instance", label], **(named or {"value": "value", "at": "at"}))
    return made.rename(columns={label: "route"})
