"""Alertmanager's silences: who silenced which alerts of our rules, until when and why."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from xai_runbook.errors import NotConfigured, inert
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.window import Window
from xai_runbook.operations.monitoring.alert_rules import rule_labels
from xai_runbook.settings.limits import Signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pandas import DataFrame, Series

    from xai_runbook.clients.alertmanager import Alertmanager
    from xai_runbook.settings.limits import Limits

_COLUMNS = ["silence", "state", "hides", "matchers", "by", "why", "starts_at", "ends_at", "remaining_seconds"]


def silences(alertmanager: Alertmanager, limits: Limits, at: datetime | None = None) -> DataFrame:
    """Return the silences that are active or pending now (or at `at`), the longest first.

    Columns: silence (its id), state (active, pending), hides (list: the alerts of our rules that it can hide, for all
    targets or some), matchers, by, why, starts_at, ends_at (UTC), remaining_seconds (until it ends).
    Source: Alertmanager docs, Silences; erratum E23.
    """
    now = at or datetime.now(UTC)
    frame = alertmanager.silences()
    frame = frame[(frame["state"] != "expired") & (frame["ends_at"] > now)].sort_values("ends_at", ascending=False)
    with_texts = frame.assign(
        hides=_hides(frame, limits),
        matchers=[inert(", ".join(map(_matcher_text, matchers))) for matchers in frame["matchers"]],
        remaining_seconds=(frame["ends_at"] - pd.Timestamp(now)).dt.total_seconds(),
    )
    return with_texts[_COLUMNS].reset_index(drop=True)


def silence_history(alertmanager: Alertmanager, limits: Limits, window: Window | str) -> DataFrame:
    """Return the silences that were active within a window, including ended ones, for a chart of its alerts.

    Columns: silence, hides (list: the alerts of our rules that it could hide, for all targets or some), by, why,
    starts_at, ends_at (UTC). Empty if no Alertmanager is configured, as nothing could be silenced.
    Source: Alertmanager docs, Silences, which are kept for five days after their end.
    """
    window = Window.parse(window) if isinstance(window, str) else window
    columns = ["silence", "hides", "by", "why", "starts_at", "ends_at"]
    try:
        frame = alertmanager.silences()
    except NotConfigured:
        return pd.DataFrame(columns=columns)
    frame = frame[(frame["starts_at"] < window.end) & (frame["ends_at"] > window.start)]
    return frame.assign(hides=_hides(frame, limits))[columns].reset_index(drop=True)


def check_silences(silences: DataFrame, limit: Limit) -> Finding:
    """Return an alert if a silence that can hide alerts of our rules lasts longer than the limit.

    Like an acknowledgement, a silence should end before it is forgotten. Silences of other alerts do not count.
    """
    relevant = silences[silences["hides"].map(len) > 0]
    if relevant.empty:
        others = f" ({len(silences)} hide other alerts)" if len(silences) else ""
        summary = f"no silence hides an alert of the runbook{others}"
        return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=summary, hint=limit.hint)
    finding = judge(limit, relevant, value="remaining_seconds", target="matchers", noun="left of a silence")
    texts = "; ".join(map(_description, relevant.to_dict("records")))
    return replace(finding, summary=inert(f"{finding.summary}; {texts}"))


def _hides(frame: DataFrame, limits: Limits) -> Series[Any]:
    """Return the alerts of our rules that each silence can hide."""
    limits_with_rules = [limits.by_name[name] for name in Signals.model_fields]
    rules = [{"alertname": limit.alert, **rule_labels(limit)} for limit in limits_with_rules]
    hidden = [[rule["alertname"] for rule in rules if _may_hide(matchers, rule)] for matchers in frame["matchers"]]
    return pd.Series(hidden, index=frame.index, dtype=object)


def _description(row: Mapping[Any, Any]) -> str:
    all_alerts = len(row["hides"]) == len(Signals.model_fields)
    hidden = "every alert" if all_alerts else ", ".join(row["hides"])
    return f"{hidden} until {row['ends_at']:%Y-%m-%d %H:%M} UTC by {row['by']} ({row['why']})"


def _may_hide(matchers: Sequence[Mapping[str, Any]], rule: Mapping[str, str]) -> bool:
    """Return whether a silence can hide an alert of a rule with these labels; other labels may have any value."""
    return all(_matches(matcher, rule[matcher["name"]]) for matcher in matchers if matcher["name"] in rule)


def _matches(matcher: Mapping[str, Any], text: str) -> bool:
    if not matcher["isRegex"]:
        return bool((matcher["value"] == text) is matcher["isEqual"])
    try:
        return (re.fullmatch(matcher["value"], text) is not None) is matcher["isEqual"]
    except (re.error, RecursionError):  # valid in Go but not in Python: assume that it matches
        return True


def _matcher_text(matcher: Mapping[str, Any]) -> str:
    operator = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
    return f"{matcher['name']}{operator[matcher['isRegex'], matcher['isEqual']]}{matcher['value']}"
