"""The table of limits as Prometheus alerting rules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from xai_runbook.limits import Signals

if TYPE_CHECKING:
    from xai_runbook.findings import Limit
    from xai_runbook.settings import Settings

GROUP = "xai-runbook"


def alert_rules(settings: Settings) -> str:
    """A rules file for Prometheus with one rule for each limit that has a signal, named as the limit's `alert`.

    It is JSON, which is YAML too. Load it with `rule_files`; `alerts.check_alert` judges the same limits the same way.
    Source: runbook, Alert Thresholds; Prometheus docs, Alerting rules; errata E19.
    """
    group = {
        "name": GROUP,
        "interval": settings.prometheus.step if settings.prometheus else "15s",
        "rules": [_rule(getattr(settings.limits, name), settings.promql(name)) for name in Signals.model_fields],
    }
    return json.dumps({"groups": [group]}, indent=2, ensure_ascii=False) + "\n"


def _rule(limit: Limit, signal: str) -> dict[str, object]:
    comparison = ">" if limit.direction == "above" else "<"
    return {
        "alert": limit.alert,
        "expr": " ".join(["(" + signal + "\n)", comparison, repr(limit.threshold)]),  # a signal may end in a comment
        "for": limit.duration,
        "labels": {"severity": limit.severity.value, "limit": limit.name},
        "annotations": {
            "summary": _literal(limit.title) + ": {{ $labels.instance }} {{ $value }} " + _literal(limit.describe()),
            "hint": _literal(limit.hint),
        },
    }


def _literal(text: str) -> str:
    """`text` as it is, also where it holds what Prometheus' templates would run."""
    return text.replace("{{", '{{ "{{" }}')
