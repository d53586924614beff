"""Alerts that are active in Prometheus now, which of our limits raised them, and whether they are silenced."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from xai_runbook.errors import CannotAsk, NoData, NotConfigured, inert
from xai_runbook.model.findings import Finding, Severity, Status
from xai_runbook.settings.limits import Signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame

    from xai_runbook.clients.alertmanager import Alertmanager
    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.settings.limits import Limits

FIRING, PENDING = "firing", "pending"
_RANKS = {"critical": 0, "high": 1, "medium": 2}


def active_alerts(prometheus: Prometheus, alertmanager: Alertmanager, limits: Limits) -> DataFrame:
    """Return the active alerts of all rules that Prometheus has loaded, worst first.

    Columns: alert, state (pending, firing), severity, limit (the limit that its rule was made from; "" for rules of
    others), labels, value, active_at (UTC), silenced_until (UTC; NaT if not silenced), silenced_by, silenced_why,
    summary. `attrs["failing"]`: names of rules that Prometheus cannot evaluate, whose alerts are never active;
    `attrs["silences"]`: why the silences are unknown, else "".
    Errors: NoData if no alerting rule is loaded.
    Source: runbook, Manual Alert Testing; Alertmanager docs, Silences; errata E12, E23.
    """
    frame, rules = prometheus.alerts(), prometheus.alerting_rules()
    if frame.empty and rules.empty:
        raise NoData(
            "Prometheus has no alerting rules, so no alert can be active",
            on=prometheus.url,
            hint="load the output of xai-runbook rules",
        )
    silenced, doubt = _silenced_alerts(alertmanager)
    rows = [
        {**row, "limit": _limit(row["label_set"], limits), **_silence(row["label_set"], silenced)}
        for row in frame.to_dict("records")
    ]
    columns = [
        "alert", "state", "severity", "limit", "labels", "value", "active_at", "silenced_until", "silenced_by",
        "silenced_why", "summary",
    ]  # fmt: skip
    active = pd.DataFrame(rows, columns=columns).assign(rank=frame["severity"].map(_RANKS).fillna(3))
    for column in ("active_at", "silenced_until"):
        active[column] = pd.to_datetime(active[column], utc=True).astype("datetime64[ms, UTC]")
    active = active.sort_values(["state", "rank", "alert", "labels"], ignore_index=True).drop(columns="rank")
    active.attrs.update(failing=sorted(set(rules.loc[rules["health"] == "err", "alert"])), silences=doubt)
    return active


def check_active_alerts(active_alerts: DataFrame) -> Finding:
    """Return an alert if an alert fires that none of our limits raised, with the highest severity of those.

    Listed in the summary but not counted: alerts of our own rules, as each has its own finding; silenced alerts, as a
    person has seen them, until the silence ends; pending alerts. Severities "none" and "info" (such as a watchdog that
    always fires) are ignored; any other word than the runbook's three counts as medium. If nothing fires but Prometheus
    cannot evaluate some of its rules, the finding is unknown. Source: runbook, Manual Alert Testing; erratum E23.
    """
    from_limits, silenced = active_alerts["limit"] != "", active_alerts["silenced_until"].notna()
    counted = active_alerts[~from_limits & ~silenced & ~active_alerts["severity"].isin(["none", "info"])]
    firing = counted[counted["state"] == FIRING]
    notes = [
        _named("pending", counted[counted["state"] == PENDING]),
        _named("of the runbook, judged separately", active_alerts[from_limits & (active_alerts["state"] == FIRING)]),
        _listed_silences(active_alerts[silenced]),
    ]
    failing, doubt = active_alerts.attrs.get("failing", []), active_alerts.attrs.get("silences", "")
    cannot_evaluate = f"Prometheus cannot evaluate {', '.join(failing)}" if failing else ""
    if doubt and len(active_alerts):
        notes.append(f"silences are unknown: {doubt}")
    if firing.empty and failing:
        return Finding.unknown("active_alerts", _joined([cannot_evaluate, "no other alert fires", *notes]))
    if firing.empty:
        quiet = f"no {'other ' if notes[1] or notes[2] else ''}alert fires"
        quiet += f" ({len(active_alerts)} active)" if len(active_alerts) else ""
        return Finding(name="active_alerts", status=Status.OK, summary=_joined([quiet, *notes]))
    by_name = {severity.value: severity for severity in Severity}
    severities = [by_name.get(text, Severity.MEDIUM) for text in firing["severity"]]
    targets = [f"{alert} {labels}".strip() for alert, labels in zip(firing["alert"], firing["labels"], strict=True)]
    return Finding(
        name="active_alerts",
        status=Status.ALERT,
        severity=max(severities, key=list(Severity).index),
        summary=_joined([_named(f"{len(firing)} firing", firing), *notes, cannot_evaluate]),
        targets=tuple(inert(target, 200) for target in targets),
        hint="read each alert's annotations; Alertmanager holds the silences and routes",
    )


def _silenced_alerts(alertmanager: Alertmanager) -> tuple[list[tuple[dict[str, str], DataFrame]], str]:
    """Return the labels and silences of each silenced alert, and the error if Alertmanager cannot be asked."""
    try:
        alerts, silences = alertmanager.alerts(), alertmanager.silences().set_index("silence")
    except NotConfigured:
        return [], "no Alertmanager is configured"
    except CannotAsk as error:
        return [], f"asking Alertmanager failed: {error.what}"
    return [
        (row["labels"], silences.loc[[identifier for identifier in row["silences"] if identifier in silences.index]])
        for row in alerts.to_dict("records")
        if row["silences"]
    ], ""


def _silence(labels: Mapping[str, str], silenced: list[tuple[dict[str, str], DataFrame]]) -> dict[str, object]:
    """Return the silence of an alert that ends last. Alertmanager's labels include Prometheus' external labels."""
    found = [silences for full_labels, silences in silenced if labels.items() <= full_labels.items() and len(silences)]
    if not found:
        return {"silenced_until": None, "silenced_by": "", "silenced_why": ""}
    longest = pd.concat(found).sort_values("ends_at").iloc[-1]
    return {
        "silenced_until": longest["ends_at"],
        "silenced_by": inert(longest["by"], 200),
        "silenced_why": inert(longest["why"], 500),
    }


def _limit(labels: Mapping[str, str], limits: Limits) -> str:
    """Return the limit whose rule raised the alert. Checks the name too: other rules may have a label `limit`."""
    name = labels.get("limit", "")
    if name not in Signals.model_fields:
        return ""
    return name if limits.by_name[name].alert == labels.get("alertname") else ""


def _named(heading: str, alerts: DataFrame) -> str:
    """Return "pending: Disk, Peers", or "" if there are no alerts."""
    return f"{heading}: {', '.join(sorted(set(alerts['alert'])))}" if len(alerts) else ""


def _listed_silences(alerts: DataFrame) -> str:
    """Return "silenced: Disk until 2026-01-31 10:00 UTC by ops (new disk at ten)"."""
    texts = {
        f"{row['alert']} until {_clock(row['silenced_until'])} by {row['silenced_by']} ({row['silenced_why']})"
        for row in alerts.to_dict("records")
    }
    return f"silenced: {', '.join(sorted(texts))}" if texts else ""


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _joined(parts: list[str]) -> str:
    return inert("; ".join(part for part in parts if part))
