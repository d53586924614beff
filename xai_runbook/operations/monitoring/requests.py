"""Requests to the nodes' API: their latency, their errors, and the routes that take the time.

Durations are a histogram, either classic (buckets, from which quantiles are interpolated) or native (one series, from
Prometheus 2.40 on); both are supported. Source: runbook, Slow API Response, whose query names the histogram itself: a
classic one has no series of that name (errata E63).
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
"""Apdex counts a request as half satisfied up to this multiple of the limit."""


def request_latency(prometheus: Prometheus, quantiles: Sequence[float] = (0.5, 0.95, 0.99)) -> DataFrame:
    """Return latency quantiles by instance and route, over the settings' window `requests`.

    Columns: instance, route, quantile (0 to 1), seconds (NaN if there were no requests), requests_per_second,
    in_last_bucket (bool: the quantile is beyond the last finite bucket, so seconds is only a lower bound).
    Errors: NoData if there is no histogram; InputError. Source: errata E63.
    """
    if not quantiles or not all(0 <= quantile <= 1 for quantile in quantiles):
        raise InputError(f"invalid quantiles {list(quantiles)}", hint="numbers from 0 to 1, such as 0.95")
    buckets = _buckets(prometheus)
    if buckets.empty:
        query, counts = prometheus.promql(_NATIVE), _native(prometheus, "histogram_count(" + _NATIVE + ")")
        traffic = counts.set_index(_BY)[["value"]].rename(columns={"value": "requests_per_second"}).assign(last=np.inf)
        at = counts["at"].iloc[0]
    else:
        query, at, group = prometheus.promql(_BUCKETS), buckets["at"].iloc[0], buckets.groupby(_BY)
        finite = buckets[np.isfinite(buckets["bound"])].groupby(_BY)["bound"].max()
        traffic = pd.DataFrame(
            {
                "requests_per_second": buckets[np.isposinf(buckets["bound"])].set_index(_BY)["value"],
                "last": finite.reindex(group.size().index),
            }
        )
    parts = []
    for quantile in quantiles:
        result = prometheus.instant("histogram_quantile(" + repr(float(quantile)) + ", " + query + ")", at)
        parts.append(_by_route(prometheus, result, seconds="value").assign(quantile=float(quantile)))
    frame = pd.concat(parts, ignore_index=True).join(traffic, on=_BY)
    frame["in_last_bucket"] = frame["seconds"] >= frame["last"]
    frame = frame.sort_values([*_BY, "quantile"], ignore_index=True)
    return frame[[*_BY, "quantile", "seconds", "requests_per_second", "in_last_bucket"]]


def apdex(prometheus: Prometheus, limit: Limit) -> DataFrame:
    """Return the share of requests that were answered within a limit, by instance and route, the worst first.

    Columns: instance, route, requests_per_second, satisfied_ratio (within the limit), tolerated_ratio (within four
    times the limit), apdex (their mean; 0 to 1), exact (bool: False if the limit is not a bucket bound, so that the
    ratio is interpolated). Ratios are NaN if there were no requests.
    Errors: NoData if there is no histogram; InputError if the limit is not in seconds.
    Source: the Apdex specification, which calls the two thresholds T and 4T.
    """
    if limit.unit != "seconds" or limit.threshold <= 0:
        raise InputError(f"{limit.name} is not a limit in seconds", hint="use env.limits.troubleshooting.api_latency")
    buckets = _buckets(prometheus)
    bounds = (limit.threshold, TOLERATED * limit.threshold)
    if buckets.empty:
        frame = _native(prometheus, "histogram_count(" + _NATIVE + ")")
        frame = frame.rename(columns={"value": "requests_per_second"})
        for name, bound in zip(("satisfied_ratio", "tolerated_ratio"), bounds, strict=True):
            query = "histogram_fraction(0, " + repr(bound) + ", " + _NATIVE + ")"
            fraction = _by_route(prometheus, prometheus.instant(prometheus.promql(query), frame["at"].iloc[0]))
            frame = frame.merge(fraction.rename(columns={"value": name}).drop(columns="at"), how="left", on=_BY)
        frame["exact"] = False
    else:
        rows = []
        for (instance, route), group in buckets.sort_values("bound").groupby(_BY):
            upper, counts = group["bound"].to_numpy(), group["value"].to_numpy()
            total = counts[-1] if np.isposinf(upper[-1]) and counts[-1] > 0 else np.nan
            finite = np.isfinite(upper)
            shares = np.interp(bounds, np.append(0.0, upper[finite]), np.append(0.0, counts[finite])) / total
            # a histogram does not show how requests are distributed beyond its last finite bucket
            shares[np.array(bounds) > upper[finite].max(initial=0.0)] = np.nan
            rows.append([instance, route, counts[-1], *shares, limit.threshold in upper])
        frame = pd.DataFrame(rows, columns=[*_BY, "requests_per_second", "satisfied_ratio", "tolerated_ratio", "exact"])
    frame["apdex"] = (frame["satisfied_ratio"] + frame["tolerated_ratio"]) / 2
    frame = frame.sort_values(["satisfied_ratio", *_BY], ignore_index=True)
    return frame[[*_BY, "requests_per_second", "satisfied_ratio", "tolerated_ratio", "apdex", "exact"]]


def time_spent(prometheus: Prometheus) -> DataFrame:
    """Return the time that each route takes, over all nodes, the largest first.

    Columns: route, busy_seconds (of request time per second), share_ratio (of all routes), requests_per_second,
    mean_seconds (NaN if there were no requests). Errors: NoData if there is no histogram.
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
    traffic = _by_route(prometheus, counts, requests_per_second="value").set_index("route")["requests_per_second"]
    frame["share_ratio"] = frame["busy_seconds"] / (frame["busy_seconds"].sum() or np.nan)
    frame["requests_per_second"] = frame["route"].map(traffic).astype(float)
    frame["mean_seconds"] = frame["busy_seconds"] / frame["requests_per_second"].where(frame["requests_per_second"] > 0)
    return frame.sort_values(["busy_seconds", "route"], ascending=[False, True], ignore_index=True)


def responses(prometheus: Prometheus) -> DataFrame:
    """Return the rate of responses by instance and class of HTTP status, over the settings' window `requests`.

    Columns: instance, status_class ("2xx"; "other" if it is not an HTTP status), requests_per_second, share_ratio (of
    the instance's requests; NaN if there were none). Errors: NoData if no requests are counted.
    """
    name, label = prometheus.settings.metrics.requests, prometheus.settings.metrics.status_label
    rates = metric(prometheus, "sum by (instance, ${status_label}) (rate(${requests}[${requests_window}]))", name)
    frame = columns(rates, ["instance", label], requests_per_second="value")
    frame["status_class"] = _status_class(frame[label])
    by_class = frame.groupby(["instance", "status_class"])["requests_per_second"].sum().reset_index()
    total = by_class.groupby("instance")["requests_per_second"].transform("sum")
    return by_class.assign(share_ratio=by_class["requests_per_second"] / total.where(total > 0))


def error_rate(prometheus: Prometheus) -> DataFrame:
    """Return the rate of failed requests by instance, over the settings' window `requests`.

    Columns: instance, requests_per_second, errors_per_second (status 500 to 599; 0 if there are requests but no series
    of errors), error_ratio (0 to 1, of the requests with a known status). The last two are NaN if no status is known.
    Errors: NoData if no requests are counted. Source: runbook, Alert Thresholds, API Errors.
    """
    by_class = responses(prometheus)
    frame = by_class.groupby("instance")["requests_per_second"].sum().reset_index()
    failed = by_class[by_class["status_class"] == "5xx"].set_index("instance")["requests_per_second"]
    known = by_class[by_class["status_class"] != "other"].groupby("instance")["requests_per_second"].sum()
    with_status = frame["instance"].map(known).astype(float)  # NaN if the status label has another name
    frame["errors_per_second"] = frame["instance"].map(failed).astype(float).fillna(0.0).where(with_status.notna())
    frame["error_ratio"] = frame["errors_per_second"] / with_status.where(with_status > 0)
    return frame


def latency_history(
    prometheus: Prometheus, window: Window | str | None = None, quantiles: Sequence[float] = (0.5, 0.95, 0.99)
) -> DataFrame:
    """Return latency quantiles of all requests over a window, for a chart: about 500 points each.

    Columns: quantile ("p50", categorical), at (UTC), value (seconds; NaN if there were no requests).
    Errors: NoData if there is no histogram; InputError.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    variables, parts = widened(prometheus, window).template_variables, []
    for quantile in quantiles:
        if not 0 <= quantile <= 1:
            raise InputError(f"{quantile} is not a quantile", hint="a number from 0 to 1, such as 0.95")
        head = "histogram_quantile(" + repr(float(quantile)) + ", "
        classic = head + "sum by (le) (rate(${request_seconds}_bucket[${requests_window}])))"
        native = head + "sum(rate(${request_seconds}[${requests_window}])))"
        part = prometheus.range(Template(classic + " or " + native).substitute(variables), window)
        parts.append(part[["at", "value"]].assign(quantile=f"p{100 * quantile:g}"))
    name = prometheus.settings.metrics.request_seconds
    frame = existing(pd.concat(parts, ignore_index=True), name, prometheus, "metrics.request_seconds")
    return frame.astype({"quantile": "category"})[["quantile", "at", "value"]]


def traffic_history(prometheus: Prometheus, window: Window | str | None = None) -> DataFrame:
    """Return the rate of responses by class of HTTP status over a window, for a chart: about 500 points each.

    Columns: status_class ("2xx", categorical), at (UTC), value (requests per second). Errors: NoData, InputError.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    metrics, variables = prometheus.settings.metrics, widened(prometheus, window).template_variables
    query = Template("sum by (${status_label}) (rate(${requests}[${requests_window}]))").substitute(variables)
    rates = existing(prometheus.range(query, window), metrics.requests, prometheus, "metrics.requests")
    frame = columns(rates, [metrics.status_label], at="at", value="value")
    frame["status_class"] = _status_class(frame[metrics.status_label])
    by_class = frame.groupby(["status_class", "at"])["value"].sum().reset_index()
    return by_class.astype({"status_class": "category"})


def _status_class(status: Series[str]) -> Series[str]:
    return (status.str[:1] + "xx").where(status.str.fullmatch("[1-5][0-9][0-9]"), "other")


def _buckets(prometheus: Prometheus) -> DataFrame:
    """Return the rate of each bucket with its bound; empty if there is no classic histogram."""
    rates = prometheus.instant(prometheus.promql(_BUCKETS))
    if rates.empty:
        return rates
    frame = _by_route(prometheus, rates).assign(le=rates["le"].astype("str"))
    return frame.assign(bound=frame["le"].astype(float))


def _native(prometheus: Prometheus, template: str) -> DataFrame:
    """Return the result of PromQL over the native histogram. Errors: NoData if it does not exist."""
    name, setting = prometheus.settings.metrics.request_seconds, "metrics.request_seconds, classic or native"
    return _by_route(prometheus, existing(prometheus.instant(prometheus.promql(template)), name, prometheus, setting))


def _by_route(prometheus: Prometheus, frame: DataFrame, **renamed: str) -> DataFrame:
    """Return instance, route (from the configured label) and the other columns under new names."""
    label = prometheus.settings.metrics.route_label
    labelled = columns(frame, ["instance", label], **(renamed or {"value": "value", "at": "at"}))
    return labelled.rename(columns={label: "route"})
