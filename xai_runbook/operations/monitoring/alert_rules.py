"""The table of limits as Prometheus alerting rules: as data, as the file that Prometheus loads, as a table to read."""

from __future__ import annotations

import json
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
_PLAIN = re.compile(r"(?!(?i:y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9_-]*|(\d+(y|w|d|h|m|s|ms))+")


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
    lines = [
        f"# The alert table of {name}, made by xai-runbook rules: change its limits, not this file.",
        "groups:",
        f"  - name: {GROUP}",
        f"    interval: {step}",
        "    rules:",
    ]
    for rule in rule_table(settings, limits):
        lines += [
            f"      - alert: {_scalar(rule.alert)}",
            f"        expr: {_block(rule.expr)}",
            f"        for: {_scalar(rule.duration)}",
        ]
        for key, texts in (("labels", rule.labels), ("annotations", rule.annotations)):
            lines += [f"        {key}:", *(f"          {label}: {_scalar(text)}" for label, text in texts.items())]
    return "\n".join([*lines, ""])


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


def _scalar(text: str) -> str:
    """`text` as YAML on one line; quoted as JSON, which is YAML too, unless it is a plain word or a duration."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=not text.isprintable())


def _block(text: str) -> str:
    """PromQL as YAML that keeps its lines; on one line and quoted where it has characters that YAML refuses."""
    lines = text.split("\n")
    if not all(line.isprintable() for line in lines):
        return json.dumps(text)
    return "\n".join(["|-", *(" " * 10 + line if line else "" for line in lines)])
