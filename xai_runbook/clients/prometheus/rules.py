"""The rules that a Prometheus has loaded, and queries in its own formatting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xai_runbook.clients.prometheus.answers import timestamp, with_utc
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
    """Return every loaded rule, in the order of its group; an empty frame if there are none.

    Columns: group, file, interval_seconds, evaluation_seconds (duration of the group's last evaluation), kind
    (alerting, recording), name, query, duration_seconds (NaN for a recording rule), labels, annotations (dicts),
    health (ok, err, unknown: not evaluated yet), error, evaluated_at (UTC; NaT if not evaluated yet).
    """
    import pandas as pd

    groups = prometheus.data("/api/v1/rules")
    try:
        rows = [_row(group, rule) for group in groups["groups"] for rule in group["rules"]]
        return with_utc(pd.DataFrame(rows, columns=_COLUMNS), "evaluated_at")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise BadAnswer(
            "the rules in its answer cannot be read",
            on=prometheus.url,
            hint="check that it is a Prometheus of version 2 or 3",
        ) from None


def formatted_queries(prometheus: Prometheus, queries: Sequence[str]) -> list[str]:
    """Return the queries in this Prometheus' own formatting: two queries with equal results are the same query.

    Errors: InputError for invalid PromQL; WrongServer before version 2.39, which has no formatter.
    """
    try:
        return [str(prometheus.data("/api/v1/format_query", query=query)) for query in queries]
    except WrongServer:
        raise WrongServer(
            f"Prometheus {prometheus.version} cannot format queries, so loaded rules cannot be compared with ours",
            on=prometheus.url,
            hint="version 2.39 or later",
        ) from None


def is_lookback_left_open(prometheus: Prometheus) -> bool:
    """Return whether a sample exactly as old as the lookback is ignored, as from version 3 on."""
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
        "evaluated_at": timestamp(rule["lastEvaluation"]),
    }
