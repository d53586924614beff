"""Whether Prometheus itself is to be believed: its configuration, its clock, how far back it remembers.

The runbook has none of it: an old configuration, a clock that is off or an empty answer look like a healthy network.
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
"""The longest between a server's start and its first sample: later than that, older samples were dropped."""


def server(prometheus: Prometheus) -> DataFrame:
    """What the server says of itself, one row.

    Columns: target (its address), version, started_at (UTC), failed_reloads (1 where it could not take in the newest
    configuration and runs on with an older one), configured_at (UTC: since when it runs this one), retention.
    Errors: BadAnswer; those of every question to Prometheus.
    """
    told = prometheus.runtime()
    try:
        row = {
            "target": prometheus.url,
            "version": prometheus.version,
            "started_at": _instant(told["startTime"]),
            "failed_reloads": float(not _truth(told["reloadConfigSuccess"])),
            "configured_at": _instant(told["lastConfigTime"]),
            "retention": str(told.get("storageRetention", "")),
        }
    except (KeyError, ValueError, TypeError):
        raise BadAnswer(
            "its runtime information cannot be read", on=prometheus.url, hint="Prometheus 2.14 or later"
        ) from None
    return pd.DataFrame([row])


def check_config(server: DataFrame, limit: Limit) -> Finding:
    """`alert` where the last reload of the configuration failed: what was meant since then is not in force."""
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
    """How far the server's clock is from this machine's, one row: the quickest of three answers.

    Columns: target, skew_seconds (above 0: the server is ahead), accuracy_seconds (half the answer's time),
    off_seconds (what of the skew is beyond the accuracy). A window "until now" that the server does not have yet, or
    has no longer, is an empty answer.
    """
    _ = prometheus.version  # so that nothing else is asked on the way
    tries = []
    for _ in range(_CLOCK_TRIES):
        before, started = time.time(), time.monotonic()
        told = float(prometheus.instant("time()")["value"].iloc[0])
        half = (time.monotonic() - started) / 2
        tries.append((half, told - before - half))
    accuracy, skew = min(tries)
    row = {"target": prometheus.url, "skew_seconds": skew, "accuracy_seconds": accuracy}
    return pd.DataFrame([{**row, "off_seconds": max(0.0, abs(skew) - accuracy)}])


def check_clock(clock: DataFrame, limit: Limit) -> Finding:
    """`alert` where the two clocks differ by more than the limit; `unknown` where the answers took longer than that."""
    row = clock.iloc[0]
    if row["accuracy_seconds"] > limit.threshold and not limit.exceeded(row["off_seconds"]):
        slow = quantity(2 * row["accuracy_seconds"], "seconds")
        return Finding.unknown(limit.name, f"an answer took {slow}, which is too slow to compare clocks", limit)
    finding = judge(limit, clock, value="off_seconds", target="target", noun="seconds off")
    if finding.status is Status.OK:
        return finding
    side = "ahead of" if row["skew_seconds"] > 0 else "behind"
    apart = duration_text(round(abs(row["skew_seconds"]), 3 if abs(row["skew_seconds"]) < 10 else 0))
    return replace(finding, summary=f"its clock is {apart} {side} this machine's: {limit.describe()}")


def kept(prometheus: Prometheus, window: Window | str | None = None) -> DataFrame:
    """How much of a window the server still has, one row. `window` is by default the settings' history.

    Columns: target, asked_from, asked_until, kept_from (UTC: its oldest sample; NaT where it has none), retention,
    started_at (UTC), covered_ratio (0 to 1). Errors: NoData where it does not say; InputError. Source: errata E14.
    """
    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    page = prometheus.own_metrics().set_index("name")["value"]
    if "prometheus_tsdb_lowest_timestamp_seconds" not in page:
        raise NoData("its metrics do not name its oldest sample", on=prometheus.url, hint="is it an agent, or a proxy?")
    oldest, now = float(page["prometheus_tsdb_lowest_timestamp_seconds"]), time.time()
    known = 0 < oldest <= now + 86_400  # an empty storage says a time beyond all calendars
    first, last = max(window.start.timestamp(), oldest), min(window.end.timestamp(), max(now, oldest))
    covered = max(0.0, last - first) / (min(window.end.timestamp(), now) - window.start.timestamp()) if known else 0.0
    own = server(prometheus)
    row = {
        "target": str(window),
        "asked_from": window.start,
        "asked_until": window.end,
        "kept_from": datetime.fromtimestamp(oldest, UTC) if known else pd.NaT,
        "retention": own.loc[0, "retention"],
        "started_at": own.loc[0, "started_at"],
        "covered_ratio": min(1.0, covered),
    }
    return pd.DataFrame([row])


def check_history(kept: DataFrame, limit: Limit) -> Finding:
    """`alert` where less of the window is kept than the limit asks for: a chart of the rest would be empty, not 0.

    `unknown` where the server has nothing from before its own start, which lies within the window: it is new, or lost
    its data.
    """
    row, finding = (
        kept.iloc[0],
        judge(limit, kept, value="covered_ratio", target="target", noun="of the window is retained"),
    )
    if finding.status is Status.OK:
        return finding
    started = row["started_at"]
    oldest = row["kept_from"] if row["kept_from"] is not pd.NaT else row["asked_until"]
    if row["asked_from"] < started < row["asked_until"] and abs(oldest - started) < _FIRST_SAMPLE:
        ago = duration_text(round((row["asked_until"] - started).total_seconds()))
        return Finding.unknown(limit.name, f"it started {ago} ago and has no older data", limit)
    first = f"oldest sample {row['kept_from']:%Y-%m-%d %H:%M} UTC" if row["kept_from"] is not pd.NaT else "no samples"
    outside = "outside retention" if row["covered_ratio"] == 0 else "partly outside retention"
    share = quantity(row["covered_ratio"], "ratio")
    retention = row["retention"] or "of unknown length"
    return replace(
        finding, summary=f"{share} of the window is retained ({row['target']}): {outside} ({retention}; {first})"
    )


def _instant(text: Any) -> datetime:
    at = pd.Timestamp(text)
    return at.tz_convert("UTC").floor("ms").to_pydatetime()


def _truth(told: Any) -> bool:
    if not isinstance(told, bool):
        raise TypeError("true or false")
    return told
