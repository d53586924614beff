"""What Prometheus tells beside samples, as rows: alerts, rules, targets, and its own metrics page.

Whoever calls these turns ValueError, TypeError, KeyError, AttributeError and OverflowError into a BadAnswer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from xai_runbook.errors import BadAnswer, InputError, TimedOut, TooMuch, XaiRunbookError, inert
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook.clients.http.get import HttpAnswer

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: -?\d+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def alerts(data: Any) -> list[dict[str, Any]]:
    """A row for each alert of /api/v1/alerts."""
    rows = []
    for alert in data["alerts"]:
        labels = dict(alert["labels"])
        if alert["state"] not in ("pending", "firing"):  # a state that nobody judges would be silence
            raise ValueError(alert["state"])
        rows.append(
            {
                "alert": labels.pop("alertname", ""),
                "state": alert["state"],
                "severity": labels.pop("severity", ""),
                "labels": named(labels),
                "value": float(alert["value"]),
                "active_at": alert["activeAt"],
                "summary": inert(alert.get("annotations", {}).get("summary", "")),
                "label_set": dict(alert["labels"]),
            }
        )
    return rows


def rules(data: Any) -> list[dict[str, Any]]:
    """A row for each alerting rule of /api/v1/rules."""
    return [
        {
            "alert": rule["name"],
            "group": group["name"],
            "query": rule["query"],
            "duration_seconds": float(rule["duration"]),
            "severity": rule.get("labels", {}).get("severity", ""),
            "health": rule["health"],
            "error": inert(rule.get("lastError", "")),
            "evaluated_at": said(rule["lastEvaluation"]),
        }
        for group in data["groups"]
        for rule in group["rules"]
        if rule["type"] == "alerting"
    ]


def targets(data: Any) -> list[dict[str, Any]]:
    """A row for each active target of /api/v1/targets; versions before 2.26 do not say interval and timeout."""
    return [
        {
            "job": str(target["labels"].get("job", "")),
            "instance": str(target["labels"].get("instance", "")),
            "interval_seconds": _span(target.get("scrapeInterval")),
            "timeout_seconds": _span(target.get("scrapeTimeout")),
            "error": inert(target.get("lastError", ""), 300),
            "scraped_at": said(target["lastScrape"]),
        }
        for target in data["activeTargets"]
    ]


def page(body: bytes) -> list[dict[str, Any]]:
    """A row for each sample of a page in Prometheus' text format. ValueError where a line is none."""
    rows = []
    for line in body.decode().splitlines():
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(line[:40])
        name, labels, value = match.groups()
        rows.append({"name": name, "labels": named(dict(_LABEL.findall(labels or ""))), "value": float(value)})
    return rows


def refusal(answer: HttpAnswer, url: str) -> XaiRunbookError:
    """What to raise for an answer that says why it is none: InputError for PromQL, TooMuch, TimedOut, BadAnswer."""
    try:
        told = answer.json()
        kind, words = str(told["errorType"]), inert(str(told["error"]), 500)
    except (BadAnswer, KeyError, TypeError):
        return BadAnswer(f"failed with HTTP {answer.status}", on=url, hint="read Prometheus' log")
    if kind == "bad_data":
        words = words.removeprefix('invalid parameter "query": ')
        return InputError(f"Prometheus cannot read the query: {words}", on=url, hint="mend the PromQL")
    if "too many samples" in words:
        return TooMuch(f"too much for Prometheus: {words}", on=url, hint="a shorter window or a longer step")
    if kind in ("timeout", "canceled"):
        return TimedOut(f"Prometheus gave the query up: {words}", on=url, hint="a shorter window, or a sum")
    return BadAnswer(f"Prometheus failed ({inert(kind, 40)}): {words}", on=url, hint="read Prometheus' log")


def named(labels: Mapping[str, str]) -> str:
    """ "instance=a, job=b"."""
    return inert(", ".join(f"{name}={text}" for name, text in sorted(labels.items())))


def said(stamp: str) -> str | None:
    """An instant as Prometheus writes it; None for Go's zero, which is "not yet"."""
    return None if stamp.startswith("0001") else stamp


def times(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """`frame` with that column as instants in UTC; Go writes nine digits after the second."""
    frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601").astype("datetime64[ms, UTC]")
    return frame


def _span(text: object) -> float:
    return duration_seconds(str(text)) if text else float("nan")
