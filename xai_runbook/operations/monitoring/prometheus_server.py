"""Prometheus itself: its configuration, its clock and its retention.

Not in the runbook. Without these checks an old configuration, a wrong clock or an empty result look like health.
Source: Prometheus docs, HTTP API, Runtime Information; errata E14, E15.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from xai_runbook.errors import BadAnswer, NoData
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.units import quantity
from xai_runbook.model.window import Window, duration_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus

_CLOCK_TRIES = 3
_FIRST_SAMPLE = timedelta(minutes=10)
"""The longest time from a server's start to its first sample. A longer gap means that samples were dropped."""


def server(prometheus: Prometheus) -> DataFrame:
    """Return one row about the server.

    Columns: target (its URL), version, started_at (UTC), failed_reloads (1 if the last configuration reload failed,
    else 0), configured_at (UTC: when the running configuration was loaded), retention.
    Errors: BadAnswer.
    """
    runtime = prometheus.runtime()
    try:
        row = {
            "target": prometheus.url,
            "version": prometheus.version,
            "started_at": _instant(runtime["startTime"]),
            "failed_reloads": float(not _boolean(runtime["reloadConfigSuccess"])),
            "configured_at": _instant(runtime["lastConfigTime"]),
            "retention": str(runtime.get("storageRetention", "")),
        }
    except (KeyError, ValueError, TypeError):
        raise BadAnswer(
            "its runtime information cannot be read", on=prometheus.url, hint="Prometheus 2.14 or later"
        ) from None
    return pd.DataFrame([row])


def check_config(server: DataFrame, limit: Limit) -> Finding:
    """Return an alert if the last configuration reload failed, so that later changes are not active."""
    finding = judge(limit, server, value="failed_reloads", target="target", noun="failed reloads")
    since = f"{server['configured_at'].iloc[0]:%Y-%m-%d %H:%M:%S} UTC"
    if finding.status is Status.OK:
        return replace(finding, summary=f"runs the configuration that it loaded at {since}")
    return replace(
        finding, summary=f"the last configuration reload failed: it still runs the configuration loaded at {since}"
    )


def age_seconds(prometheus: Prometheus) -> float:
    """Return how long ago the server started, by its own clock."""
    now = float(prometheus.instant("time()")["value"].iloc[0])
    return max(0.0, now - float(server(prometheus)["started_at"].iloc[0].timestamp()))


def clock(prometheus: Prometheus) -> DataFrame:
    """Return one row with the skew of the server's clock against this machine's, from the fastest of three tries.

    Columns: target, skew_seconds (positive: the server is ahead), accuracy_seconds (half the response time),
    off_seconds (the part of the skew that exceeds the accuracy). With a wrong clock, queries "until now" are empty.
    """
    _ = prometheus.version  # cached now, so that its request is not part of the measured time
    tries = []
    for _ in range(_CLOCK_TRIES):
        before, started = time.time(), time.monotonic()
        server_time = float(prometheus.instant("time()")["value"].iloc[0])
        half = (time.monotonic() - started) / 2
        tries.append((half, server_time - before - half))
    accuracy, skew = min(tries)
    row = {"target": prometheus.url, "skew_seconds": skew, "accuracy_seconds": accuracy}
    return pd.DataFrame([{**row, "off_seconds": max(0.0, abs(skew) - accuracy)}])


def check_clock(clock: DataFrame, limit: Limit) -> Finding:
    """Return an alert if the clocks differ by more than the limit; unknown if the responses took longer than that."""
    row = clock.iloc[0]
    if row["accuracy_seconds"] > limit.threshold and not limit.exceeded(row["off_seconds"]):
        slow = quantity(2 * row["accuracy_seconds"], "seconds")
        return Finding.unknown(limit.name, f"an answer took {slow}, which is too slow to compare clocks", limit)
    finding = judge(limit, clock, value="off_seconds", target="target", noun="seconds off")
    if finding.status is Status.OK:
        return finding
    side = "ahead of" if row["skew_seconds"] > 0 else "behind"
    difference = duration_text(round(abs(row["skew_seconds"]), 3 if abs(row["skew_seconds"]) < 10 else 0))
    return replace(finding, summary=f"its clock is {difference} {side} this machine's: {limit.describe()}")


def retention(prometheus: Prometheus, window: Window | str | None = None) -> DataFrame:
    """Return one row that shows how much of a window (default: the settings' window `history`) the server still has.

    Columns: target, window_start, window_end (UTC), oldest_at (UTC: its oldest sample; NaT if it has none), retention
    (as configured), started_at (UTC), covered_ratio (0 to 1).
    Errors: NoData if its metrics page does not show the oldest sample; InputError. Source: errata E14.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    page = prometheus.own_metrics().set_index("name")["value"]
    if "prometheus_tsdb_lowest_timestamp_seconds" not in page:
        raise NoData("its metrics do not name its oldest sample", on=prometheus.url, hint="is it an agent, or a proxy?")
    oldest, now = float(page["prometheus_tsdb_lowest_timestamp_seconds"]), time.time()
    known = 0 < oldest <= now + 86_400  # an empty storage exports a time far in the future
    first, last = max(window.start.timestamp(), oldest), min(window.end.timestamp(), max(now, oldest))
    covered = max(0.0, last - first) / (min(window.end.timestamp(), now) - window.start.timestamp()) if known else 0.0
    own = server(prometheus)
    row = {
        "target": str(window),
        "window_start": window.start,
        "window_end": window.end,
        "oldest_at": datetime.fromtimestamp(oldest, UTC) if known else pd.NaT,
        "retention": own.loc[0, "retention"],
        "started_at": own.loc[0, "started_at"],
        "covered_ratio": min(1.0, covered),
    }
    return pd.DataFrame([row])


def check_retention(retention: DataFrame, limit: Limit) -> Finding:
    """Return an alert if the server has less of the window than the limit requires.

    Unknown if the server started within the window and has no older data: it is new, or has lost its data.
    """
    row = retention.iloc[0]
    finding = judge(limit, retention, value="covered_ratio", target="target", noun="of the window is retained")
    if finding.status is Status.OK:
        return finding
    started = row["started_at"]
    oldest = row["oldest_at"] if row["oldest_at"] is not pd.NaT else row["window_end"]
    if row["window_start"] < started < row["window_end"] and abs(oldest - started) < _FIRST_SAMPLE:
        ago = duration_text(round((row["window_end"] - started).total_seconds()))
        return Finding.unknown(limit.name, f"it started {ago} ago and has no older data", limit)
    first = f"oldest sample {row['oldest_at']:%Y-%m-%d %H:%M} UTC" if row["oldest_at"] is not pd.NaT else "no samples"
    outside = "outside retention" if row["covered_ratio"] == 0 else "partly outside retention"
    share = quantity(row["covered_ratio"], "ratio")
    configured = row["retention"] or "of unknown length"
    return replace(
        finding, summary=f"{share} of the window is retained ({row['target']}): {outside} ({configured}; {first})"
    )


def _instant(text: Any) -> datetime:
    at = pd.Timestamp(text)
    return at.tz_convert("UTC").floor("ms").to_pydatetime()


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value
