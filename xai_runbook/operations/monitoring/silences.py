"""Who has silenced what until when: what an Alertmanager keeps quiet about, and which of our rules that hides."""

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

_COLUMNS = ["silence", "state", "hides", "matchers", "by", "why", "starts_at", "ends_at", "left_seconds"]


def silences(alertmanager: Alertmanager, limits: Limits, at: datetime | None = None) -> DataFrame:
    """The silences that hold now (`at`) or will, the longest first; expired ones are gone, none is an empty frame.

    Columns: silence (its id), state (active, pending), hides (the alerts of our rules that it can hide; all their
    targets or some), matchers, by, why, starts_at, ends_at (UTC), left_seconds (until it ends).
    Source: Alertmanager docs, Silences; erratum E23.
    """
    now = at or datetime.now(UTC)
    frame = alertmanager.silences()
    frame = frame[(frame["state"] != "expired") & (frame["ends_at"] > now)].sort_values("ends_at", ascending=False)
    made = frame.assign(
        hides=_hides(frame, limits),
        matchers=[inert(", ".join(_matcher(one) for one in each)) for each in frame["matchers"]],
        left_seconds=(frame["ends_at"] - pd.Timestamp(now)).dt.total_seconds(),
    )
    return made[_COLUMNS].reset_index(drop=True)


def silenced(alertmanager: Alertmanager, limits: Limits, window: Window | str) -> DataFrame:
    """The silences that held within a window, those that have ended since too, for the chart of its alerts.

    Columns: silence, hides (the alerts of our rules that it could hide, all their targets or some), by, why, starts_at,
    ends_at (UTC). An empty frame where no Alertmanager is configured: then nothing could be silenced.
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
    """`alert` where a silence that can hide an alert of ours lasts longer than the limit: who made it, and why.

    A silence is as an acknowledgement: it should end before it is forgotten. Those of other people's alerts are shown
    and do not count.
    """
    ours = silences[silences["hides"].map(len) > 0]
    if ours.empty:
        others = f" ({len(silences)} hide other alerts)" if len(silences) else ""
        words = f"no silence hides an alert of the runbook{others}"
        return Finding(name=limit.name, status=Status.OK, severity=limit.severity, summary=words, hint=limit.hint)
    named = ours.assign(target=[f"{row['matchers']}" for row in ours.to_dict("records")])
    finding = judge(limit, named, value="left_seconds", target="target", noun="left of a silence")
    return replace(finding, summary=inert(f"{finding.summary}; {'; '.join(map(_told, ours.to_dict('records')))}"))


def _hides(frame: DataFrame, limits: Limits) -> Series[Any]:
    """The alerts of our rules that each silence can hide."""
    ours = [limits.by_name[name] for name in Signals.model_fields]
    rules = [{"alertname": limit.alert, **rule_labels(limit)} for limit in ours]
    hidden = [[rule["alertname"] for rule in rules if _may_hide(each, rule)] for each in frame["matchers"]]
    return pd.Series(hidden, index=frame.index, dtype=object)


def _told(row: Mapping[Any, Any]) -> str:
    every = len(row["hides"]) == len(Signals.model_fields)
    hidden = "every alert" if every else ", ".join(row["hides"])
    return f"{hidden} until {row['ends_at']:%Y-%m-%d %H:%M} UTC by {row['by']} ({row['why']})"


def _may_hide(matchers: Sequence[Mapping[str, Any]], rule: Mapping[str, str]) -> bool:
    """Whether a silence can hide alerts of a rule with these labels: whatever it asks of other labels may be so."""
    return all(_matches(one, rule[one["name"]]) for one in matchers if one["name"] in rule)


def _matches(matcher: Mapping[str, Any], text: str) -> bool:
    if not matcher["isRegex"]:
        return bool((matcher["value"] == text) is matcher["isEqual"])
    try:
        return (re.fullmatch(matcher["value"], text) is not None) is matcher["isEqual"]
    except (re.error, RecursionError):  # Go's syntax has words of its own; what we cannot read may hide anything
        return True


def _matcher(one: Mapping[str, Any]) -> str:
    sign = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
    return f"{one['name']}{sign[one['isRegex'], one['isEqual']]}{one['value']}"
