"""The rules loaded in Prometheus: do they match the limits, and are they evaluated in time."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from xai_runbook.clients.prometheus import rules as prometheus_rules
from xai_runbook.errors import InputError, NoData, inert
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.window import duration_seconds, duration_text
from xai_runbook.operations.monitoring.alert_rules import GROUP, Rule, rule_table

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.settings.limits import Limits

_MAX_LISTED = 4
_MISSED = 3
"""How many consecutive evaluations a group may miss before it counts as stopped."""


def rules_drift(prometheus: Prometheus, limits: Limits) -> DataFrame:
    """Compare each rule that the limits produce with the rule of that name that Prometheus has loaded.

    Columns: alert, limit ("" for an obsolete rule), state (same, missing, changed, failing, obsolete), difference
    (text), file (that the rule was loaded from).
    Queries are compared as formatted by Prometheus, so that spaces and comments do not matter.
    Errors: WrongServer before Prometheus 2.39. Source: Prometheus docs, Alerting rules; HTTP API, Rules.
    """
    loaded = prometheus_rules.loaded_rules(prometheus)
    loaded = loaded[loaded["kind"] == "alerting"]
    wanted = rule_table(prometheus.settings, limits)
    pairs = [(rule, _best(rule, loaded[loaded["name"] == rule.alert])) for rule in wanted]
    formatted = iter(_formatted(prometheus, [(rule.expr, found["query"]) for rule, found in pairs if found]))
    rows = []
    for rule, found in pairs:
        differences = _differences(rule, found, *next(formatted)) if found else ["is not loaded"]
        files = [row["file"] for row in _own(rule, loaded)]
        if len(files) > 1:  # a second copy may still fire at an old limit
            differences.append(f"is loaded {len(files)} times, from {', '.join(dict.fromkeys(files))}")
        failing = f"cannot be evaluated: {found['error']}" if found and found["health"] == "err" else ""
        state = "missing" if not found else "changed" if differences else "failing" if failing else "same"
        rows.append(
            {
                "alert": rule.alert,
                "limit": rule.labels["limit"],
                "state": state,
                "difference": inert("; ".join([*differences, *([failing] if failing else [])]), 1000),
                "file": inert(found["file"], 300) if found else "",
            }
        )
    names = {rule.alert for rule in wanted}
    for obsolete in loaded[(loaded["group"] == GROUP) & ~loaded["name"].isin(names)].to_dict("records"):
        rows.append(
            {
                "alert": inert(obsolete["name"], 200),
                "limit": "",
                "state": "obsolete",
                "difference": "is loaded, but the limits no longer produce it",
                "file": inert(obsolete["file"], 300),
            }
        )
    return pd.DataFrame(rows)


def check_rules(drift: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the differences if more rules differ than the limit allows."""
    wrong = drift[drift["state"] != "same"]
    missing = int((wrong["state"] == "missing").sum())
    expected = int((drift["limit"] != "").sum())
    finding = Finding(name=limit.name, status=Status.OK, summary="", severity=limit.severity, hint=limit.hint)
    if not limit.exceeded(len(wrong)):
        return replace(finding, summary=f"{expected - len(wrong)} of {expected} rules are loaded as generated")
    if missing == expected:
        summary = f"none of the {expected} rules of the runbook is loaded"
    else:
        texts = [f"{row['alert']} {row['difference']}" for row in wrong.to_dict("records")]
        more = f"; and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
        summary = f"{len(wrong)} of {len(drift)} rules differ from the limits: {'; '.join(texts[:_MAX_LISTED])}{more}"
    return replace(finding, status=Status.ALERT, summary=inert(summary), targets=tuple(wrong["alert"]))


def rule_groups(prometheus: Prometheus, at: datetime | None = None) -> DataFrame:
    """Return all rule groups that Prometheus has loaded, with the time that their evaluation takes.

    Columns: group, file, rules (count), interval_seconds, evaluation_seconds (the last evaluation), used_ratio
    (evaluation_seconds / interval_seconds; NaN if not evaluated yet, infinite if three evaluations were missed),
    failing (rules that cannot be evaluated), error (of the first of them), evaluated_at (UTC; newest of its rules).
    Errors: NoData if no rule is loaded. Source: Prometheus docs, HTTP API, Rules.
    """
    rules = prometheus_rules.loaded_rules(prometheus)
    if rules.empty:
        raise NoData("Prometheus has no rules loaded", on=prometheus.url, hint="load the output of xai-runbook rules")
    now, rows = at or datetime.now(UTC), []
    for (file, group), each in rules.groupby(["file", "group"], sort=False):
        newest, first = each["evaluated_at"].max(), each.iloc[0]
        interval, failing = float(first["interval_seconds"]), each[each["health"] == "err"]
        error = ""
        if pd.isna(newest):
            used, error = math.nan, "it has not been evaluated yet"
        elif (now - newest).total_seconds() > max(_MISSED * interval, interval + _max_delay(prometheus)):
            since = duration_text(round((now - newest).total_seconds()))
            used, error = math.inf, f"it has not been evaluated for {since}"
        else:
            used = float(first["evaluation_seconds"]) / interval
        if len(failing):
            error = f"{failing.iloc[0]['name']}: {failing.iloc[0]['error']}"
        rows.append(
            {
                "group": inert(str(group), 200),
                "file": inert(str(file), 300),
                "rules": len(each),
                "interval_seconds": interval,
                "evaluation_seconds": float(first["evaluation_seconds"]),
                "used_ratio": used,
                "failing": len(failing),
                "error": inert(error, 300),
                "evaluated_at": newest,
            }
        )
    return pd.DataFrame(rows)


def check_rule_groups(groups: DataFrame, limit: Limit) -> Finding:
    """Return an alert if a group uses too much of its interval, is not evaluated, or has rules that fail."""
    failing = groups[groups["failing"] > 0]
    finding = judge(limit, groups, value="used_ratio", target="group", noun="of the interval used by a rule group")
    if failing.empty:
        return finding
    failures = "; ".join(
        f"{row['failing']} of {row['rules']} rules in {row['group']} cannot be evaluated: {row['error']}"
        for row in failing.head(_MAX_LISTED).to_dict("records")
    )
    more = f"; {finding.summary}" if finding.status is not Status.OK else ""
    names = dict.fromkeys([*failing["group"], *finding.targets])
    return replace(finding, status=Status.ALERT, summary=inert(failures + more), targets=tuple(names))


def _formatted(prometheus: Prometheus, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Format each pair of queries in Prometheus: with two requests if all pairs are equal, else with two per pair."""
    if not pairs:
        return []
    with suppress(InputError):  # a query that is a plain number cannot be an operand of "or"
        expected, loaded = prometheus_rules.formatted_queries(
            prometheus, [" or ".join(f"({query}\n)" for query in side) for side in zip(*pairs, strict=True)]
        )
        if expected == loaded:
            return [("", "") for _ in pairs]
    return [(one, other) for one, other in (prometheus_rules.formatted_queries(prometheus, pair) for pair in pairs)]


def _max_delay(prometheus: Prometheus) -> float:
    """Return how old a response may be when it is read: the request timeout."""
    return duration_seconds(prometheus.access.timeout)


def _best(rule: Rule, named: DataFrame) -> dict[str, Any] | None:
    """Return the loaded rule to compare: of those with the same name, preferably one with our label or in our group."""
    if named.empty:
        return None
    rows = _own(rule, named) or named.to_dict("records")
    return {str(key): value for key, value in next((row for row in rows if row["group"] == GROUP), rows[0]).items()}


def _own(rule: Rule, loaded: DataFrame) -> list[dict[Hashable, Any]]:
    """Return the loaded rules with the rule's name and `limit` label."""
    rows = loaded[loaded["name"] == rule.alert].to_dict("records")
    return [row for row in rows if row["labels"].get("limit") == rule.labels["limit"]]


def _differences(rule: Rule, found: Mapping[str, Any], expected: str, loaded: str) -> list[str]:
    """Return the differences between a rule and the loaded one, as texts; `expected` and `loaded` are the queries."""
    texts = []
    if expected != loaded:
        (signal, bound), (loaded_signal, loaded_bound) = _split(expected), _split(loaded)
        same_signal = signal == loaded_signal and bound and loaded_bound
        texts.append(
            f"compares with {loaded_bound} instead of {bound}" if same_signal else f"queries {inert(loaded, 200)!r}"
        )
    if duration_seconds(rule.duration) != found["duration_seconds"]:
        texts.append(f"has 'for: {duration_text(found['duration_seconds'])}' instead of {rule.duration}")
    labels = found["labels"]
    for name in [*rule.labels, *(name for name in labels if name not in rule.labels)]:
        if labels.get(name) != rule.labels.get(name):
            value = repr(inert(labels[name], 80)) if name in labels else "missing"
            texts.append(f"label {inert(name, 80)} is {value}")
    if not texts and found["annotations"] != rule.annotations:  # any other difference changes the annotations too
        texts.append("annotations differ")
    return texts


def _split(query: str) -> tuple[str, str]:
    """Split a formatted rule into its signal and its comparison: ("(up)", "< 1")."""
    match = re.fullmatch(r"(.*)\s([<>]=?|==|!=)\s(\S+)", query, flags=re.DOTALL)
    return (match[1].strip(), f"{match[2]} {match[3]}") if match else (query, "")
