"""Active alerts and their silences: on frames, and from a real Prometheus with a real Alertmanager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from tests.support import alertmanager_server, prometheus_server
from xai_runbook.clients.alertmanager import Alertmanager
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.environment import NotConfiguredHandle
from xai_runbook.errors import BadAnswer, NoData, Unreachable, WrongServer
from xai_runbook.model.findings import Severity, Status
from xai_runbook.operations import reachability
from xai_runbook.operations.monitoring import active_alerts, alert_rules, silences
from xai_runbook.sandbox.supervisor.component import free_ports

TABLES = {"limits": {"monitoring": {"peer_count": {"duration": "0s"}}}}
FOREIGN = """\
  - name: theirs
    interval: 1s
    rules:
      - {alert: DiskFull, expr: 'vector(97) > 90', labels: {severity: critical, volume: data}}
      - {alert: SyncLag, expr: vector(1), labels: {severity: page, limit: lag}}
"""


def table(*rows: tuple[str, str, str], **columns: object) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["alert", "state", "severity"])
    plain = {"limit": "", "labels": "instance=node-1", "value": 1.0, "summary": "", "silenced_by": ""}
    plain |= {"silenced_until": pd.NaT, "silenced_why": "", **columns}
    return made.assign(active_at=datetime.now(UTC), **plain)


def test_active_alerts_have_the_highest_severity() -> None:
    finding = active_alerts.check_active_alerts(
        table(("Lag", "firing", "medium"), ("Cpu", "firing", "critical"), ("Disk", "pending", "high"))
    )
    assert (finding.status, finding.severity) == (Status.ALERT, Severity.CRITICAL)
    assert finding.summary == "2 firing: Cpu, Lag; pending: Disk"
    assert finding.targets == ("Lag instance=node-1", "Cpu instance=node-1")
    assert active_alerts.check_active_alerts(table(("Odd", "firing", "page"))).severity is Severity.MEDIUM


def test_an_alert_from_our_rules_is_named_but_not_counted() -> None:
    both = table(("SyncLag", "firing", "medium"), ("Other", "firing", "high"))
    both.loc[0, "limit"] = "sync_lag"
    finding = active_alerts.check_active_alerts(both)
    assert (finding.targets, finding.severity) == (("Other instance=node-1",), Severity.HIGH)
    assert finding.summary == "1 firing: Other; of the runbook, judged separately: SyncLag"
    alone = active_alerts.check_active_alerts(both.head(1))
    assert alone.status is Status.OK and alone.summary.startswith("no other alert fires (1 active); of the runbook")


def test_a_silenced_alert_is_named_but_not_counted() -> None:
    until = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
    quiet = table(
        ("Disk", "firing", "critical"), silenced_until=until, silenced_by="ops", silenced_why="new disk at ten"
    )
    finding = active_alerts.check_active_alerts(quiet)
    assert finding.status is Status.OK
    assert finding.summary == (
        "no other alert fires (1 active); silenced: Disk until 2026-01-31 10:00 UTC by ops (new disk at ten)"
    )
    both = pd.concat([quiet, table(("Cpu", "firing", "high"))], ignore_index=True)
    finding = active_alerts.check_active_alerts(both)
    assert (finding.severity, finding.targets) == (Severity.HIGH, ("Cpu instance=node-1",))
    assert "silenced: Disk" in finding.summary


def test_rules_that_cannot_be_evaluated_make_the_finding_unknown() -> None:
    none = table()
    none.attrs["failing"] = ["Disk"]
    finding = active_alerts.check_active_alerts(none)
    assert finding.status is Status.UNKNOWN
    assert finding.summary == "unknown, because Prometheus cannot evaluate Disk; no other alert fires"
    one = table(("Other", "firing", "high"))
    one.attrs["failing"] = ["Disk"]
    assert active_alerts.check_active_alerts(one).summary == "1 firing: Other; Prometheus cannot evaluate Disk"


def test_no_alert_a_pending_one_and_a_watchdog_are_ok() -> None:
    assert active_alerts.check_active_alerts(table()).summary == "no alert fires"
    assert (
        active_alerts.check_active_alerts(table(("Disk", "pending", "high"))).summary
        == "no alert fires (1 active); pending: Disk"
    )
    assert active_alerts.check_active_alerts(table(("Watchdog", "firing", "none"))).status is Status.OK


@dataclass
class Live:
    prometheus: Prometheus
    alertmanager: Alertmanager
    url: str

    def until(self, status: Status, text: str) -> pd.DataFrame:
        """Return the active alerts once their finding has this status and text."""

        def holds() -> bool:
            self.last = active_alerts.active_alerts(self.prometheus, self.alertmanager, prometheus_server.limits())
            finding = active_alerts.check_active_alerts(self.last)
            return finding.status is status and text in finding.summary

        prometheus_server.until(holds, f"{status}: {text}")
        return self.last.set_index("alert")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("active")
    lonely = prometheus_server.Exporter()
    lonely.text = "network_peers 1\nblockchain_height 5\n"
    with ExitStack() as stack:
        url = stack.enter_context(alertmanager_server.running(folder))
        settings = prometheus_server.settings(**TABLES)
        written = prometheus_server.rules(settings).replace("interval: 15s", "interval: 1s")
        prometheus = stack.enter_context(
            prometheus_server.running(
                folder,
                rules=written + FOREIGN,
                exporters={"node-1": stack.enter_context(prometheus_server.serving(lonely.answer))},
                alertmanager=url,
            )
        )
        yield Live(prometheus_server.handle(prometheus, **TABLES), alertmanager_server.handle(url), url)


def test_live_each_alert_has_its_state_start_and_limit(live: Live) -> None:
    active = live.until(Status.ALERT, "PeerCountLow")
    assert active.loc["DiskFull", "limit"] == active.loc["SyncLag", "limit"] == "", "not ours, whatever its labels"
    ours = active.loc["PeerCountLow"]
    assert (ours["limit"], ours["state"], ours["value"], ours["severity"]) == ("peer_count", "firing", 1.0, "medium")
    assert ours["labels"] == "instance=node-1, job=xai-node, limit=peer_count"
    assert ours["summary"] == "Peer count: 1 peers on node-1"
    assert str(active["active_at"].dtype) == "datetime64[ms, UTC]"
    assert abs(datetime.now(UTC) - ours["active_at"]) < timedelta(minutes=2)
    finding = active_alerts.check_active_alerts(live.last)
    assert finding.severity is Severity.CRITICAL
    assert finding.targets == ("DiskFull volume=data", "SyncLag limit=lag")


def test_live_a_silence_hides_its_alert_until_it_ends(live: Live) -> None:
    live.until(Status.ALERT, "DiskFull, SyncLag")
    one = alertmanager_server.silence(live.url, 3600, alertname="DiskFull", region="test")
    live.until(Status.ALERT, "silenced: DiskFull until ")
    alertmanager_server.silence(live.url, 7, "for a moment", alertname="~Sync.*")
    active = live.until(Status.OK, "by ops (for a moment)")
    assert set(active.index[active["silenced_by"] == "ops"]) == {"DiskFull", "SyncLag"}
    assert active.loc["DiskFull", "silenced_why"] == "new disk at ten"
    left = active.loc["DiskFull", "silenced_until"] - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    live.until(Status.ALERT, "1 firing: SyncLag")  # an expired silence counts no more
    alertmanager_server.expire(live.url, one)
    live.until(Status.ALERT, "2 firing: DiskFull, SyncLag")


def test_live_silences_of_our_alerts_are_listed_and_judged(live: Live) -> None:
    limits = prometheus_server.limits()
    limit = limits.monitoring.silences
    assert silences.check_silences(silences.silences(live.alertmanager, limits), limit).status is Status.OK
    made = [
        alertmanager_server.silence(live.url, 300, alertname="DiskFull"),
        alertmanager_server.silence(live.url, 600, severity="medium", instance="node-3"),
        alertmanager_server.silence(live.url, 3 * 86400, alertname="~(High|Low).*"),
    ]
    try:
        frame = silences.silences(live.alertmanager, limits)
        assert frame["silence"].tolist() == made[::-1], "the longest first"
        assert frame["hides"].tolist() == [
            ["HighCPU", "LowDisk", "HighMemory"],
            [
                rule.alert
                for rule in alert_rules.rule_table(live.prometheus.settings, limits)
                if rule.labels["severity"] == "medium"
            ],
            [],
        ]
        assert frame["matchers"].tolist()[:2] == ["alertname=~(High|Low).*", "severity=medium, instance=node-3"]
        finding = silences.check_silences(frame, limit)
        assert (finding.status, finding.severity) == (Status.ALERT, Severity.MEDIUM)
        assert finding.targets == ("alertname=~(High|Low).*",)
        assert (
            "HighCPU, LowDisk, HighMemory until " in finding.summary and "by ops (new disk at ten)" in finding.summary
        )
    finally:
        for each in made:
            alertmanager_server.expire(live.url, each)
    assert silences.silences(live.alertmanager, limits).empty, "expired ones are gone"


def test_without_an_alertmanager_alerts_count_and_silences_are_unknown(live: Live) -> None:
    port = free_ports(["nothing"])["nothing"]
    for absent, words in (
        (NotConfiguredHandle("alertmanager", "test", False), "no Alertmanager is configured"),
        (
            alertmanager_server.handle(f"http://127.0.0.1:{port}"),
            "asking Alertmanager failed: the connection was refused",
        ),
    ):
        active = active_alerts.active_alerts(live.prometheus, absent, prometheus_server.limits())  # type: ignore[arg-type]
        assert active.attrs["silences"] == words
        finding = active_alerts.check_active_alerts(active)
        assert finding.status is Status.ALERT
        assert f"silences are unknown: {words}" in finding.summary


def test_without_any_rule_nothing_can_be_active(tmp_path: Path) -> None:
    absent, limits = NotConfiguredHandle("alertmanager", "test", False), prometheus_server.settings().limits
    with prometheus_server.running(tmp_path) as url, pytest.raises(NoData, match="no alerting rules"):
        active_alerts.active_alerts(prometheus_server.handle(url), absent, limits)  # type: ignore[arg-type]


def test_reachable_says_the_version_and_down_is_known(live: Live) -> None:
    limit = prometheus_server.limits().monitoring.alertmanager_reachable
    up = reachability.alertmanager(live.alertmanager)
    assert "cluster disabled" in up["detail"].iloc[0]
    assert reachability.check_reachable(up, limit).status is Status.OK
    port = free_ports(["nothing"])["nothing"]
    down = reachability.alertmanager(alertmanager_server.handle(f"http://127.0.0.1:{port}"))
    finding = reachability.check_reachable(down, limit)
    assert (finding.status, finding.severity) == (Status.ALERT, Severity.HIGH)


def test_another_kind_of_server_is_not_an_alertmanager(live: Live) -> None:
    wrong = alertmanager_server.handle(live.prometheus.url)
    with pytest.raises(WrongServer, match="no Alertmanager answers here"):
        wrong.silences()
    assert reachability.alertmanager(wrong)["answers"].isna().all()


STATUS = b'{"versionInfo": {"version": "0.25.0"}, "cluster": {"status": "ready"}, "config": {"original": "s3cret"}}'


@pytest.mark.parametrize("body", [b'{"a": 1}', b'[{"id": 1}]', b'[{"status": {}, "labels": 3}]', b"[null]"])
def test_an_answer_of_an_unknown_shape_is_a_bad_answer(body: bytes) -> None:
    def answer(path: str) -> tuple[int, str, bytes]:
        return 200, "application/json", STATUS if path.endswith("status") else body

    with prometheus_server.serving(answer) as url:
        alertmanager = alertmanager_server.handle(url)
        assert alertmanager.status() == {"version": "0.25.0", "cluster": "ready"}, "and nothing of its configuration"
        with pytest.raises(BadAnswer, match="the silences in its answer cannot be read"):
            alertmanager.silences()
        with pytest.raises(BadAnswer, match="the alerts in its answer cannot be read"):
            alertmanager.alerts()


@pytest.mark.parametrize(
    "body", [b"<html>login</html>", b'{"status": "success"}', b'{"versionInfo": {"version": 3}}', b"[]"]
)
def test_a_server_without_a_version_is_refused(body: bytes) -> None:
    served = prometheus_server.serving(lambda path: (200, "application/json", body))
    with served as url, pytest.raises(WrongServer, match="no Alertmanager answers here"):
        alertmanager_server.handle(url).alerts()


def test_a_dead_alertmanager_is_unreachable() -> None:
    port = free_ports(["nothing"])["nothing"]
    with pytest.raises(Unreachable):
        alertmanager_server.handle(f"http://127.0.0.1:{port}").alerts()
