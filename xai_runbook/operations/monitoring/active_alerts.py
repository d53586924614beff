"""What is alerted on now: Prometheus' active alerts, which of them are ours, and which somebody has silenced."""

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
    """Alerts that Prometheus' own rules hold now, worst first; an empty frame is none.

    Columns: alert, state (pending, firing), severity, limit (which of our limits raised it; "" for somebody else's),
    labels, value, active_at (UTC), silenced_until (UTC; NaT where no silence hides it), silenced_by, silenced_why,
    summary. `attrs["failing"]` names the rules that Prometheus cannot evaluate, which are never active;
    `attrs["silences"]` says why it cannot be told what is silenced, "" where it can.
    Errors: NoData where no alerting rule is loaded, as nothing could be active.
    Source: runbook, Manual Alert Testing; Alertmanager docs, Silences; errata E12, E23.
    """
    frame, rules = prometheus.alerts(), prometheus.alerting_rules()
    if frame.empty and rules.empty:
        raise NoData(
            "Prometheus has no alerting rules, so no alert can be active",
            on=prometheus.url,
            hint="load the output of xai-runbook rules",
        )
    hidden, doubt = _hidden(alertmanager)
    rows = [
        {**row, "limit": _limit(row["label_set"], limits), **_silence(row["label_set"], hidden)}
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


def check_active(active: DataFrame) -> Finding:
    """The finding over the table of `active_alerts`: `alert` where one fires, as severe as the severest.

    Alerts of our own rules are named and do not count: each has a finding of its own. Silenced ones are named, with
    who silenced them until when, and do not count until the silence ends: as with an acknowledged finding, a person
    has seen them. A severity that is not one of the runbook's three words counts as medium; "none" and "info" (a
    watchdog that always fires) turn nothing. Pending alerts are `ok`, and said. Nothing that fires is `unknown` where
    Prometheus cannot evaluate some of its rules. Source: runbook, Manual Alert Testing; erratum E23.
    """
    ours, silenced = active["limit"] != "", active["silenced_until"].notna()
    counted = active[~ours & ~silenced & ~active["severity"].isin(["none", "info"])]
    firing = counted[counted["state"] == FIRING]
    notes = [
        _named("pending", counted[counted["state"] == PENDING]),
        _named("of the runbook, judged separately", active[ours & (active["state"] == FIRING)]),
        _silenced(active[silenced]),
    ]
    failing, doubt = active.attrs.get("failing", []), active.attrs.get("silences", "")
    cannot_evaluate = f"Prometheus cannot evaluate {', '.join(failing)}" if failing else ""
    if doubt and len(active):
        notes.append(f"silences are unknown: {doubt}")
    if firing.empty and failing:
        return Finding.unknown("active_alerts", _joined([cannot_evaluate, "no other alert fires", *notes]))
    if firing.empty:
        quiet = f"no {'other ' if notes[1] or notes[2] else ''}alert fires"
        quiet += f" ({len(active)} active)" if len(active) else ""
        return Finding(name="active_alerts", status=Status.OK, summary=_joined([quiet, *notes]))
    words = {severity.value: severity for severity in Severity}
    severities = [words.get(text, Severity.MEDIUM) for text in firing["severity"]]
    rows = [f"{alert} {labels}".strip() for alert, labels in zip(firing["alert"], firing["labels"], strict=True)]
    return Finding(
        name="active_alerts",
        status=Status.ALERT,
        severity=max(severities, key=list(Severity).index),
        summary=_joined([_named(f"{len(firing)} firing", firing), *notes, cannot_evaluate]),
        targets=tuple(inert(row, 200) for row in rows),
        hint="read each alert's annotations; Alertmanager holds the silences and routes",
    )


def _hidden(alertmanager: Alertmanager) -> tuple[list[tuple[dict[str, str], DataFrame]], str]:
    """The labels of each alert that a silence hides, with those silences; or why that cannot be told."""
    try:
        alerts, silences = alertmanager.alerts(), alertmanager.silences().set_index("silence")
    except NotConfigured:
        return [], "no Alertmanager is configured"
    except CannotAsk as error:
        return [], f"asking Alertmanager failed: {error.what}"
    return [
        (row["labels"], silences.loc[[one for one in row["silences"] if one in silences.index]])
        for row in alerts.to_dict("records")
        if row["silences"]
    ], ""


def _silence(labels: Mapping[str, str], hidden: list[tuple[dict[str, str], DataFrame]]) -> dict[str, object]:
    """The silence that hides an alert with these labels the longest. Prometheus adds labels of its own on the way."""
    found = [silences for told, silences in hidden if labels.items() <= told.items() and len(silences)]
    if not found:
        return {"silenced_until": None, "silenced_by": "", "silenced_why": ""}
    longest = pd.concat(found).sort_values("ends_at").iloc[-1]
    return {
        "silenced_until": longest["ends_at"],
        "silenced_by": inert(longest["by"], 200),
        "silenced_why": inert(longest["why"], 500),
    }


def _limit(labels: Mapping[str, str], limits: Limits) -> str:
    """The limit whose rule raised it: somebody else's rule may carry a label `limit` too."""
    name = labels.get("limit", "")
    if name not in Signals.model_fields:
        return ""
    return name if limits.by_name[name].alert == labels.get("alertname") else ""


def _named(what: str, alerts: DataFrame) -> str:
    """ "pending: Disk, Peers"; nothing where there are none."""
    return f"{what}: {', '.join(sorted(set(alerts['alert'])))}" if len(alerts) else ""


def _silenced(alerts: DataFrame) -> str:
    """ "silenced: Disk until 2026-01-31 10:00 UTC by ops (new disk at ten)"."""
    told = {
        f"{row['alert']} until {_clock(row['silenced_until'])} by {row['silenced_by']} ({row['silenced_why']})"
        for row in alerts.to_dict("records")
    }
    return f"silenced: {', '.join(sorted(told))}" if told else ""


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _joined(told: list[str]) -> str:
    return inert("; ".join(text for text in told if text))
