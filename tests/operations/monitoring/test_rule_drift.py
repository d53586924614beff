"""The rules that a real Prometheus has loaded against those of the limits, and whether it evaluates them in time."""

from __future__ import annotations

import math
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from tests.support import prometheus_server as server
from xai_runbook.clients.prometheus import rules as prometheus_rules
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.errors import BadAnswer, InputError, NoData, WrongServer
from xai_runbook.model.findings import Finding, Status
from xai_runbook.operations.monitoring import rule_drift
from xai_runbook.settings.limits import Signals

RULES = server.rules(server.settings()).replace("interval: 15s", "interval: 1s")
GROUPS = "groups:\n"


@dataclass
class Live:
    prometheus: Prometheus
    folder: Path

    def load(self, text: str) -> None:
        """Replace the rule file and reload it."""
        (self.folder / "rules.yml").write_text(text)
        request = urllib.request.Request(f"{self.prometheus.url}/-/reload", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def drift(self) -> pd.DataFrame:
        return rule_drift.rules_drift(self.prometheus, server.limits()).set_index("alert")

    def rules_current(self) -> Finding:
        limits = server.limits()
        return rule_drift.check_rules(rule_drift.rules_drift(self.prometheus, limits), limits.monitoring.rules_current)

    def rule_groups(self) -> Finding:
        return rule_drift.check_rule_groups(
            rule_drift.rule_groups(self.prometheus), server.limits().monitoring.rule_groups
        )

    def until(self, status: Status, text: str) -> Finding:
        """Return the finding on the groups once it has this status and text."""

        def holds() -> bool:
            self.last = self.rule_groups()
            return self.last.status is status and text in self.last.summary

        server.until(holds, f"{status}: {text}")
        return self.last


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("drift")
    with server.running(folder, rules=RULES, flags=("--web.enable-lifecycle",)) as url:
        yield Live(server.handle(url), folder)


def test_rules_loaded_as_generated_are_the_same(live: Live) -> None:
    live.load(RULES)
    drift = live.drift()
    assert set(drift["state"]) == {"same"} and set(drift["difference"]) == {""}
    assert drift["limit"].tolist() == list(Signals.model_fields)
    assert set(drift["file"]) == {str(live.folder / "rules.yml")}
    finding = live.rules_current()
    count = len(Signals.model_fields)
    assert (finding.status, finding.summary) == (
        Status.OK,
        f"{count} of {count} rules are loaded as generated",
    )


def test_spaces_comments_and_another_group_are_no_difference(live: Live) -> None:
    loose = RULES.replace("(network_peers) < 3", "( network_peers )  # fewer than three\n            < 3.0")
    assert loose != RULES
    live.load(loose.replace("name: xai-runbook", "name: ours").replace("interval: 1s", "interval: 2s"))
    assert set(live.drift()["state"]) == {"same"}


@pytest.mark.parametrize(
    ("was", "now", "alert", "words"),
    [
        ("(network_peers) < 3", "(network_peers) < 2", "PeerCountLow", "compares with < 2 instead of < 3"),
        ("(network_peers) < 3", "(network_peers) <= 3", "PeerCountLow", "compares with <= 3 instead of < 3"),
        ("(network_peers) < 3", "(peers) < 3", "PeerCountLow", "queries '(peers) < 3'"),
        ("(network_peers) < 3", "1", "PeerCountLow", "queries '1'"),  # a bare number
        ("(network_peers) < 3", "vector(1)", "PeerCountLow", "queries 'vector(1)'"),
        ("for: 30m", "for: 1h", "BlockHeightStalled", "has 'for: 1h' instead of 30m"),
        ("severity: critical", "severity: page", "HighCPU", "label severity is 'page'"),
        ("          severity: critical\n", "", "HighCPU", "label severity is missing"),
        ("severity: critical", "severity: critical\n          team: a", "HighCPU", "label team is 'a'"),
        ("Disk space free: ", "Disk: ", "LowDisk", "annotations differ"),
        ("alert: SyncLag", "alert: Lag", "SyncLag", "is not loaded"),
    ],
)
def test_an_edited_rule_is_named_with_its_difference(live: Live, was: str, now: str, alert: str, words: str) -> None:
    assert was in RULES
    live.load(RULES.replace(was, now, 1))
    drift = live.drift()
    assert words in drift.loc[alert, "difference"]
    finding = live.rules_current()
    assert finding.status is Status.ALERT
    assert alert in finding.targets and f"{alert} {words}" in finding.summary
    assert set(drift.loc[drift["state"] == "same"].index) | set(finding.targets) == set(drift.index)


def test_a_rule_that_the_limits_no_longer_produce_is_obsolete(live: Live) -> None:
    live.load(RULES.replace("alert: SyncLag", "alert: Lag"))
    assert live.drift().loc["Lag", "state"] == "obsolete"
    assert set(live.rules_current().targets) == {"SyncLag", "Lag"}


def test_an_old_copy_of_our_rules_in_another_group_is_a_difference(live: Live) -> None:
    old = RULES.partition(GROUPS)[2].replace("name: xai-runbook", "name: of-last-year").replace("< 3", "< 2")
    live.load(RULES + old)
    assert set(live.drift()["state"]) == {"changed"}
    finding = live.rules_current()
    assert finding.status is Status.ALERT and "HighCPU is loaded 2 times, from " in finding.summary


def test_another_rule_with_the_same_name_is_ignored(live: Live) -> None:
    theirs = "  - name: theirs\n    rules: [{alert: SyncLag, expr: vector(1)}]\n"
    live.load(GROUPS + theirs + RULES.partition(GROUPS)[2])
    assert set(live.drift()["state"]) == {"same"}


def test_none_of_our_rules_loaded_is_one_sentence(live: Live) -> None:
    live.load(GROUPS + "  - name: theirs\n    rules: [{alert: Theirs, expr: vector(1)}]\n")
    finding = live.rules_current()
    assert finding.status is Status.ALERT
    assert finding.summary == f"none of the {len(Signals.model_fields)} rules of the runbook is loaded"
    live.load(GROUPS)
    assert live.rules_current().status is Status.ALERT, "no rule at all"
    with pytest.raises(NoData, match="no rules loaded"):
        rule_drift.rule_groups(live.prometheus)


TWICE = 'label_replace(vector(1), "a", "b", "", "") or label_replace(vector(1), "a", "c", "", "")'


def test_a_rule_that_cannot_be_evaluated_fails_both_checks(live: Live) -> None:
    """The PromQL parses but always fails: two series on the side of an operator where only one is allowed."""
    settings = server.settings(signals={"peer_count": f"vector(1) + on () ({TWICE})"})
    prometheus = Prometheus(live.prometheus.access, settings.promql_settings)
    live.load(server.rules(settings).replace("interval: 15s", "interval: 1s"))
    finding = live.until(Status.ALERT, "1 of ")
    assert finding.targets == ("xai-runbook",)
    assert "PeerCountLow" in finding.summary and "many-to-many matching not allowed" in finding.summary
    drift = rule_drift.rules_drift(prometheus, settings.limits).set_index("alert")
    assert drift.loc["PeerCountLow", "state"] == "failing"
    assert "cannot be evaluated: " in drift.loc["PeerCountLow", "difference"]
    live.load(RULES)
    live.until(Status.OK, "of the interval")


def test_a_group_that_needs_most_of_its_interval_is_slow(live: Live) -> None:
    slow = "{record: slow, expr: 'sum_over_time(vector(1)[600s:1ms])'}"
    live.load(GROUPS + f"  - name: slow\n    interval: 100ms\n    rules: [{slow}]\n" + RULES.partition(GROUPS)[2])
    finding = live.until(Status.ALERT, "of the interval used by a rule group")
    assert finding.targets == ("slow",)
    groups = rule_drift.rule_groups(live.prometheus).set_index("group")
    assert groups.loc["slow", "used_ratio"] > 0.8 > groups.loc["xai-runbook", "used_ratio"]
    assert groups.loc["xai-runbook", "rules"] == len(Signals.model_fields)
    live.load(RULES)


def test_a_group_not_yet_evaluated_is_unknown_and_a_stopped_one_alerts(live: Live) -> None:
    live.load(GROUPS + "  - name: rare\n    interval: 10000h\n    rules: [{alert: Rare, expr: vector(1)}]\n")
    groups = rule_drift.rule_groups(live.prometheus)
    assert math.isnan(groups["used_ratio"].iloc[0]) and pd.isna(groups["evaluated_at"].iloc[0])
    finding = live.rule_groups()
    assert finding.status is Status.UNKNOWN and "it has not been evaluated yet" in finding.summary
    assert pd.isna(live.prometheus.alerting_rules()["evaluated_at"].iloc[0]), (
        "and the alerts can be request all the same"
    )
    live.load(RULES)
    live.until(Status.OK, "of the interval")
    later = datetime.now(UTC) + timedelta(minutes=5)  # as if nothing had been evaluated since
    groups = rule_drift.rule_groups(live.prometheus, at=later)
    finding = rule_drift.check_rule_groups(groups, server.limits().monitoring.rule_groups)
    assert (finding.status, finding.targets) == (Status.ALERT, ("xai-runbook",))


def test_promql_is_compared_as_formatted_by_prometheus(live: Live) -> None:
    one, other = prometheus_rules.formatted_queries(live.prometheus, ["sum by(a) (b)", "sum  by (a)(b)  # same"])
    assert one == other
    with pytest.raises(InputError, match="cannot parse the query"):
        prometheus_rules.formatted_queries(live.prometheus, ["sum by"])


@pytest.mark.parametrize(("version", "open_"), [("2.42.0+ds", False), ("3.5.3+ds1", True), ("10.0.0", True)])
def test_the_lookback_is_left_open_by_version(version: str, open_: bool) -> None:
    body = f'{{"status": "success", "data": {{"version": "{version}", "revision": ""}}}}'.encode()
    with server.serving(lambda path: (200, "application/json", body)) as url:
        assert prometheus_rules.is_lookback_left_open(server.handle(url)) is open_


def test_an_old_prometheus_or_an_unknown_answer_is_an_error(live: Live) -> None:
    live.load(RULES)
    known = {
        path: urllib.request.urlopen(live.prometheus.url + path, timeout=10).read()
        for path in ("/api/v1/status/buildinfo", "/api/v1/rules")
    }

    def old(path: str) -> tuple[int, str, bytes]:
        body = known.get(re.sub(r"\?.*", "", path))
        return (200, "application/json", body) if body else (404, "text/plain", b"404 page not found")

    with server.serving(old) as url, pytest.raises(WrongServer, match=r"Prometheus 2\S* cannot format queries"):
        rule_drift.rules_drift(server.handle(url), server.settings().limits)
    known["/api/v1/rules"] = b'{"status": "success", "data": {"groups": [{"name": "a", "rules": [{}]}]}}'
    with server.serving(old) as url, pytest.raises(BadAnswer, match="the rules in its answer cannot be read"):
        rule_drift.rule_groups(server.handle(url))
