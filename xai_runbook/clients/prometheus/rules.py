"""The rules that a Prometheus has loaded, as it tells of them, and PromQL as it writes it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xai_runbook.clients.prometheus.answers import said, times
from xai_runbook.errors import BadAnswer, WrongServer, inert

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from xai_runbook.clients.prometheus.client import Prometheus

_COLUMNS = [
    "group", "file", "interval_seconds", "evaluation_seconds", "kind", "name", "query", "duration_seconds", "labels",
    "annotations", "health", "error", "evaluated_at",
]  # fmt: skip


def loaded_rules(prometheus: Prometheus) -> pd.DataFrame:
    """Every rule that is loaded, in its group's order; none is an empty frame.

    Columns: group, file, interval_seconds, evaluation_seconds (how long the whole group took the last time), kind
    (alerting, recording), name, query, duration_seconds (NaN for a recording rule), labels, annotations (dicts),
    health (ok, err, unknown: not yet evaluated), error, evaluated_at (UTC; NaT where not yet).
    """
    import pandas as pd

    groups = prometheus.data("/api/v1/rules")
    try:
        rows = [_row(group, rule) for group in groups["groups"] for rule in group["rules"]]
        return times(pd.DataFrame(rows, columns=_COLUMNS), "evaluated_at")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise BadAnswer(
            "its answer has no rules that can be read", on=prometheus.url, hint="is it a Prometheus of version 2 or 3?"
        ) from None


def formatted(prometheus: Prometheus, queries: Sequence[str]) -> list[str]:
    """The queries as this Prometheus itself writes them: two that come out equal are the same query.

    Errors: InputError where one is no PromQL; WrongServer before version 2.39, which cannot.
    """
    try:
        return [str(prometheus.data("/api/v1/format_query", query=query)) for query in queries]
    except WrongServer:
        raise WrongServer(
            f"Prometheus {prometheus.version} cannot format queries: ours cannot be held against those it has loaded",
            on=prometheus.url,
            hint="version 2.39 or later",
        ) from None


def left_open(prometheus: Prometheus) -> bool:
    """Whether what is exactly as old as the lookback counts no more: so from version 3 on."""
    return prometheus.version.partition(".")[0] not in ("0", "1", "2")


def _row(group: Any, rule: Any) -> dict[str, Any]:
    return {
        "group": str(group["name"]),
        "file": str(group["file"]),
        "interval_seconds": float(group["interval"]),
        "evaluation_seconds": float(group["evaluationTime"]),
        "kind": str(rule["type"]),
        "name": str(rule["name"]),
        "query": str(rule["query"]),
        "duration_seconds": float(rule["duration"]) if rule["type"] == "alerting" else math.nan,
        "labels": {str(name): str(text) for name, text in rule.get("labels", {}).items()},
        "annotations": {str(name): str(text) for name, text in rule.get("annotations", {}).items()},
        "health": str(rule["health"]),
        "error": inert(str(rule.get("lastError", "")), 500),
        "evaluated_at": said(rule["lastEvaluation"]),
    }
