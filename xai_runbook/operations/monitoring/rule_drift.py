"""Are the rules that Prometheus judges by those that the table of limits makes, and does it keep up with them?"""

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

_MOST_NAMED = 4
_MISSED = 3
"""How many evaluations in a row may be missing before a group counts as standing still."""


def rules_drift(prometheus: Prometheus, limits: Limits) -> DataFrame:
    """Each rule that the table of limits makes, against what Prometheus has loaded under its name.

    Columns: alert, limit ("" for a rule that the table makes no more), state (same, missing, changed, failing, left
    over), difference (in words: what is loaded instead of what), file (that it was loaded from).
    Queries are compared as Prometheus itself writes them, so that spaces and comments make no difference.
    Errors: WrongServer before Prometheus 2.39. Source: Prometheus docs, Alerting rules; HTTP API, Rules.
    """
    loaded = prometheus_rules.loaded_rules(prometheus)
    loaded = loaded[loaded["kind"] == "alerting"]
    wanted = rule_table(prometheus.settings, limits)
    pairs = [(rule, _best(rule, loaded[loaded["name"] == rule.alert])) for rule in wanted]
    texts = iter(_formatted(prometheus, [(rule.expr, found["query"]) for rule, found in pairs if found]))
    rows = []
    for rule, found in pairs:
        told = _differences(rule, found, *next(texts)) if found else ["is not loaded"]
        files = [row["file"] for row in _own(rule, loaded)]
        if len(files) > 1:  # an old copy goes on firing at its old limit
            told.append(f"is loaded {len(files)} times, from {', '.join(dict.fromkeys(files))}")
        failing = f"cannot be evaluated: {found['error']}" if found and found["health"] == "err" else ""
        state = "missing" if not found else "changed" if told else "failing" if failing else "same"
        rows.append(
            {
                "alert": rule.alert,
                "limit": rule.labels["limit"],
                "state": state,
                "difference": inert("; ".join([*told, *([failing] if failing else [])]), 1000),
                "file": inert(found["file"], 300) if found else "",
            }
        )
    names = {rule.alert for rule in wanted}
    for left in loaded[(loaded["group"] == GROUP) & ~loaded["name"].isin(names)].to_dict("records"):
        words = "is loaded, but the limits no longer produce it"
        row = {"alert": inert(left["name"], 200), "limit": "", "state": "left over", "difference": words}
        rows.append({**row, "file": inert(left["file"], 300)})
    return pd.DataFrame(rows)


def check_rules(drift: DataFrame, limit: Limit) -> Finding:
    """`alert` where more rules differ from the table than the limit allows, with what is loaded instead."""
    wrong = drift[drift["state"] != "same"]
    missing = int((wrong["state"] == "missing").sum())
    ours = int((drift["limit"] != "").sum())
    finding = Finding(name=limit.name, status=Status.OK, summary="", severity=limit.severity, hint=limit.hint)
    if not limit.exceeded(len(wrong)):
        words = f"{ours - len(wrong)} of {ours} rules are loaded as generated"
        return replace(finding, summary=words)
    if missing == ours:
        words = f"none of the {ours} rules of the runbook is loaded"
    else:
        told = [f"{row['alert']} {row['difference']}" for row in wrong.to_dict("records")]
        more = f"; and {len(told) - _MOST_NAMED} more" if len(told) > _MOST_NAMED else ""
        words = f"{len(wrong)} of {len(drift)} rules differ from the limits: {'; '.join(told[:_MOST_NAMED])}{more}"
    return replace(finding, status=Status.ALERT, summary=inert(words), targets=tuple(wrong["alert"]))


def rule_groups(prometheus: Prometheus, at: datetime | None = None) -> DataFrame:
    """Whether Prometheus keeps up with the rules that it has loaded, ours and others'.

    Columns: group, file, rules, interval_seconds, evaluation_seconds (of all its rules, the last time), used_ratio
    (of its interval; NaN where it was not evaluated yet, infinite where it has not been for three intervals), failing
    (rules that cannot be evaluated), error (of the first of them), evaluated_at (UTC; the newest of its rules).
    Errors: NoData where no rule is loaded at all. Source: Prometheus docs, HTTP API, Rules.
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
        elif (now - newest).total_seconds() > max(_MISSED * interval, interval + _slack(prometheus)):
            used, error = (
                math.inf,
                f"it has not been evaluated for {duration_text(round((now - newest).total_seconds()))}",
            )
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
    """`alert` where a group uses more of its interval than the limit, stands still, or has rules that fail."""
    failing = groups[groups["failing"] > 0]
    finding = judge(limit, groups, value="used_ratio", target="group", noun="of the interval used by a rule group")
    if failing.empty:
        return finding
    words = "; ".join(
        f"{row['failing']} of {row['rules']} rules in {row['group']} cannot be evaluated: {row['error']}"
        for row in failing.head(_MOST_NAMED).to_dict("records")
    )
    more = f"; {finding.summary}" if finding.status is not Status.OK else ""
    names = dict.fromkeys([*failing["group"], *finding.targets])
    return replace(finding, status=Status.ALERT, summary=inert(words + more), targets=tuple(names))


def _formatted(prometheus: Prometheus, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each pair of queries as this Prometheus writes them; two requests where all are alike, else two a pair."""
    if not pairs:
        return []
    with suppress(InputError):  # a rule that asks for a bare number cannot stand beside "or"
        ours, theirs = prometheus_rules.formatted(
            prometheus, [" or ".join(f"({query}\n)" for query in side) for side in zip(*pairs, strict=True)]
        )
        if ours == theirs:
            return [("", "") for _ in pairs]
    return [(one, other) for one, other in (prometheus_rules.formatted(prometheus, pair) for pair in pairs)]


def _slack(prometheus: Prometheus) -> float:
    """What may pass between an evaluation and our looking: an answer's whole timeout."""
    return duration_seconds(prometheus.access.timeout)


def _best(rule: Rule, named: DataFrame) -> dict[str, Any] | None:
    """The loaded rule that is meant: of those with its name, the one in our group or with its label, if any is."""
    if named.empty:
        return None
    rows = _own(rule, named) or named.to_dict("records")
    return {str(key): value for key, value in next((row for row in rows if row["group"] == GROUP), rows[0]).items()}


def _own(rule: Rule, loaded: DataFrame) -> list[dict[Hashable, Any]]:
    """The loaded rules that are ours by their name and label."""
    rows = loaded[loaded["name"] == rule.alert].to_dict("records")
    return [row for row in rows if row["labels"].get("limit") == rule.labels["limit"]]


def _differences(rule: Rule, found: Mapping[str, Any], ours: str, theirs: str) -> list[str]:
    told = []
    if ours != theirs:
        (left, bound), (other, loaded) = _split(ours), _split(theirs)
        same = left == other and bound and loaded
        told.append(f"compares with {loaded} instead of {bound}" if same else f"queries {inert(theirs, 200)!r}")
    if duration_seconds(rule.duration) != found["duration_seconds"]:
        told.append(f"has 'for: {duration_text(found['duration_seconds'])}' instead of {rule.duration}")
    has = found["labels"]
    for name in [*rule.labels, *(name for name in has if name not in rule.labels)]:
        if has.get(name) != rule.labels.get(name):
            now = repr(inert(has[name], 80)) if name in has else "missing"
            told.append(f"label {inert(name, 80)} is {now}")
    if not told and found["annotations"] != rule.annotations:  # which tell of the limit too: said only of themselves
        told.append("annotations differ")
    return told


def _split(query: str) -> tuple[str, str]:
    """A formatted rule's signal, and what it is compared with: ("(up)", "< 1")."""
    match = re.fullmatch(r"(.*)\s([<>]=?|==|!=)\s(\S+)", query, flags=re.DOTALL)
    return (match[1].strip(), f"{match[2]} {match[3]}") if match else (query, "")
