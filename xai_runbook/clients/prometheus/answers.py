"""Rows from Prometheus' answers other than samples: alerts, rules, targets, and its own metrics page.

A malformed answer raises ValueError, TypeError, KeyError, AttributeError or OverflowError, which the caller turns into
BadAnswer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from xai_runbook.errors import BadAnswer, InputError, TimedOut, TooMuch, XaiRunbookError, inert
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook.clients.http.get import HttpAnswer


def alerts(data: Any) -> list[dict[str, Any]]:
    """Return a row for each alert of /api/v1/alerts."""
    rows = []
    for alert in data["alerts"]:
        labels = dict(alert["labels"])
        if alert["state"] not in ("pending", "firing"):  # an unknown state must not pass for "no alert"
            raise ValueError(alert["state"])
        rows.append(
            {
                "alert": labels.pop("alertname", ""),
                "state": alert["state"],
                "severity": labels.pop("severity", ""),
                "labels": label_text(labels),
                "value": float(alert["value"]),
                "active_at": alert["activeAt"],
                "summary": inert(alert.get("annotations", {}).get("summary", "")),
                "label_set": dict(alert["labels"]),
            }
        )
    return rows


def rules(data: Any) -> list[dict[str, Any]]:
    """Return a row for each alerting rule of /api/v1/rules."""
    return [
        {
            "alert": rule["name"],
            "group": group["name"],
            "query": rule["query"],
            "duration_seconds": float(rule["duration"]),
            "severity": rule.get("labels", {}).get("severity", ""),
            "health": rule["health"],
            "error": inert(rule.get("lastError", "")),
            "evaluated_at": timestamp(rule["lastEvaluation"]),
        }
        for group in data["groups"]
        for rule in group["rules"]
        if rule["type"] == "alerting"
    ]


def targets(data: Any) -> list[dict[str, Any]]:
    """Return a row for each active target of /api/v1/targets. Interval and timeout are NaN before version 2.26."""
    return [
        {
            "job": str(target["labels"].get("job", "")),
            "instance": str(target["labels"].get("instance", "")),
            "interval_seconds": _seconds(target.get("scrapeInterval")),
            "timeout_seconds": _seconds(target.get("scrapeTimeout")),
            "error": inert(target.get("lastError", ""), 300),
            "scraped_at": timestamp(target["lastScrape"]),
        }
        for target in data["activeTargets"]
    ]


def metrics_page(body: bytes) -> list[dict[str, Any]]:
    """Return a row for each sample of a page in Prometheus' text format. Errors: ValueError for a malformed line."""
    from prometheus_client.parser import text_string_to_metric_families  # 80 ms, and only this page needs it

    # without "# TYPE" lines, after which the parser would rename counters that do not end in _total
    text = "\n".join(line for line in body.decode().splitlines() if not line.startswith("#"))
    return [
        {"name": sample.name, "labels": label_text(sample.labels), "value": float(sample.value)}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def api_error(answer: HttpAnswer, url: str) -> XaiRunbookError:
    """Return the error for an answer with status "error": InputError (PromQL), TooMuch, TimedOut or BadAnswer."""
    try:
        content = answer.json()
        kind, message = str(content["errorType"]), inert(str(content["error"]), 500)
    except (BadAnswer, KeyError, TypeError):
        return BadAnswer(f"failed with HTTP {answer.status}", on=url, hint="read Prometheus' log")
    if kind == "bad_data":
        message = message.removeprefix('invalid parameter "query": ')
        return InputError(f"Prometheus cannot parse the query: {message}", on=url, hint="correct the PromQL")
    if "too many samples" in message:
        return TooMuch(f"Prometheus refused the query: {message}", on=url, hint="a shorter window or a longer step")
    if kind in ("timeout", "canceled"):
        return TimedOut(f"Prometheus aborted the query: {message}", on=url, hint="a shorter window, or a sum")
    return BadAnswer(f"Prometheus failed ({inert(kind, 40)}): {message}", on=url, hint="read Prometheus' log")


def label_text(labels: Mapping[str, str]) -> str:
    """Return the labels as "instance=a, job=b"."""
    return inert(", ".join(f"{name}={text}" for name, text in sorted(labels.items())))


def timestamp(text: str) -> str | None:
    """Return the timestamp as it is; None for Go's zero time, which means "not yet"."""
    return None if text.startswith("0001") else text


def with_utc(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the frame with the column's timestamps as UTC instants; Go writes up to nine digits of a second."""
    frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601").astype("datetime64[ms, UTC]")
    return frame


def _seconds(text: object) -> float:
    return duration_seconds(str(text)) if text else float("nan")
