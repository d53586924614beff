"""The table of limits as Prometheus alerting rules: as data, as the file that Prometheus loads, as a table to read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xai_runbook.errors import inert
from xai_runbook.settings.limits import Signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xai_runbook.model.findings import Limit
    from xai_runbook.settings.limits import Limits
    from xai_runbook.settings.promql import PromqlSettings

GROUP = "xai-runbook"
_NOTEBOOK = "02_monitoring"
"""Its cells, each named as a limit, answer what the rules ask (a test holds it true)."""
_ELSEWHERE = {"api_latency": "06_troubleshooting"}

# how an alert's value reads in Prometheus' templates; any other unit is a number and its name
_VALUES = {
    "ratio": "{{ $value | humanizePercentage }}",
    "seconds": "{{ $value | humanizeDuration }}",
    "bytes": "{{ $value | humanize1024 }}B",
}
_WHERE = "{{ with $labels.instance }} on {{ . }}{{ end }}"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One alerting rule, as Prometheus reads it."""

    alert: str
    expr: str
    duration: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def rule_table(settings: PromqlSettings, limits: Limits) -> list[Rule]:
    """The rule of each limit that has a signal, in the table's order.

    Source: runbook, Alert Thresholds; Prometheus docs, Alerting rules; errata E19.
    """
    return [_rule(limits.by_name[name], settings) for name in Signals.model_fields]


def alert_rules(settings: PromqlSettings, limits: Limits, *, name: str, step: str) -> str:
    """A rules file for Prometheus (YAML) with `rule_table`'s rules of the environment `name`, judged each `step`.

    Load it with `rule_files`; `alerts.check_alert` judges the same limits the same way.
    """
    from xai_runbook.operations.monitoring._rule_file import PromQL, dump

    rules = [
        {
            "alert": rule.alert,
            "expr": PromQL(rule.expr),
            "for": rule.duration,
            "labels": dict(rule.labels),
            "annotations": dict(rule.annotations),
        }
        for rule in rule_table(settings, limits)
    ]
    heading = f"# The alert table of {name}, made by xai-runbook rules: change its limits, not this file.\n"
    return heading + dump({"groups": [{"name": GROUP, "interval": step, "rules": rules}]})


def alert_table(settings: PromqlSettings, limits: Limits) -> str:
    """The alert table in Markdown: what fires, when, how severe it is, which cell of which notebook answers."""
    rows = ["| Alert | What | Fires | Severity | Answered by |", "|---|---|---|---|---|"]
    for rule, name in zip(rule_table(settings, limits), Signals.model_fields, strict=True):
        limit = limits.by_name[name]
        cells = (rule.alert, limit.title, limit.describe(), limit.severity, f"`{_notebook(name)}`, `{name}`")
        rows.append(f"| {' | '.join(inert(cell).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*rows, ""])


def rule_labels(limit: Limit) -> dict[str, str]:
    """Return the labels that the limit's rule puts on its alerts."""
    return {"severity": limit.severity.value, "limit": limit.name}


def _rule(limit: Limit, settings: PromqlSettings) -> Rule:
    signal = settings.promql(limit.name)
    comparison = ">" if limit.direction == "above" else "<"
    ends = ")" if re.fullmatch(r"[^\n#]*", signal) else "\n)"  # a signal may end in a comment
    value = _VALUES.get(limit.unit, "{{ $value | humanize }} " + limit.unit)
    return Rule(
        alert=limit.alert,
        expr=" ".join(["(" + signal + ends, comparison, repr(limit.threshold).removesuffix(".0")]),
        duration=limit.duration,
        labels=rule_labels(limit),
        annotations={
            "summary": _literal(limit.title) + ": " + value + _WHERE,
            "description": value + _WHERE + _literal(f", which is {limit.describe()}. Next: {limit.hint}"),
            "runbook_url": _literal(f"{settings.rules.runbook_url}/{_notebook(limit.name)}.ipynb#cell-id={limit.name}"),
        },
    )


def _notebook(limit: str) -> str:
    return _ELSEWHERE.get(limit, _NOTEBOOK)


def _literal(text: str) -> str:
    """`text` as it is, also where it holds what Prometheus' templates would run."""
    return inert(text).replace("{{", '{{ "{{" }}')
