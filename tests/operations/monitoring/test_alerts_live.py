"""Alerts against a live Prometheus whose targets die, stall and restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import prometheus_server as server
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.errors import NoData
from xai_runbook.model.findings import Finding, Status
from xai_runbook.operations.monitoring import alert_evaluation, alert_rules, metrics
from xai_runbook.settings.limits import Signals


class Live:
    """Three exporters, a Prometheus that scrapes them five times a second, and limits with durations of seconds."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.exporters = {f"node-{number}": server.Exporter() for number in (1, 2, 3)}
        addresses = {name: stack.enter_context(server.serving(one.answer)) for name, one in self.exporters.items()}
        tables = {
            "windows": {"rate": "2s", "requests": "2s", "growth": "1s"},
            "limits": {
                "monitoring": {
                    name: {"duration": "2s"} for name in ("peer_count", "block_growth", "metrics_present", "api_errors")
                }
            },
        }
        loaded = server.settings(**tables)
        self.limits = loaded.limits
        written = alert_rules.alert_rules(loaded, loaded.limits, name=loaded.name, step="1s")
        url = stack.enter_context(server.running(folder, rules=written, exporters=addresses))
        handle = server.handle(url, **tables)
        self.prometheus = Prometheus(handle.access.model_copy(update={"step": "1s"}), handle.settings)
        self.started = time.monotonic()

    def say(self, growing: bool = True, **numbers: float | None) -> None:
        """Set the peers that each exporter exports (None: it fails), and a height that grows or not."""
        for name, exporter in self.exporters.items():
            peers = numbers.get(name.replace("-", "_"), 3.0)
            grown = int((time.monotonic() - self.started) * 5) if growing else 0
            exporter.text = None if peers is None else f"network_peers {peers}\nblockchain_height {1000 + grown}\n"

    def check(self, name: str) -> Finding:
        limit = self.limits.by_name[name]
        try:
            return alert_evaluation.check_alert(metrics.signal(self.prometheus, limit), limit)
        except NoData as error:
            return Finding.unknown(name, error, limit)

    def until(self, name: str, status: Status, targets: tuple[str, ...], **values: float | bool | None) -> Finding:
        """Export these values until the finding has the status and targets; fail with the last finding."""
        end = time.monotonic() + 20
        while True:
            self.say(**values)  # type: ignore[arg-type]
            finding = self.check(name)
            if finding.status is status and finding.targets == targets:
                return finding
            assert time.monotonic() < end, finding
            time.sleep(0.2)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with ExitStack() as stack:
        yield Live(tmp_path_factory.mktemp("live"), stack)


def test_live_a_constant_gauge_is_ok_and_a_dead_exporter_is_unknown(live: Live) -> None:
    live.until("peer_count", Status.OK, ())
    for _ in range(10):  # constant for longer than the limit's duration: three peers are three peers
        live.say()
        time.sleep(0.3)
    assert live.check("peer_count").status is Status.OK
    finding = live.until("peer_count", Status.UNKNOWN, ("node-2",), node_2=None)  # the stale marker ends it at once
    assert "no value for node-2" in finding.summary
    assert dict(metrics.network_peers(live.prometheus).values) == {"node-1": 3.0, "node-3": 3.0}
    up = metrics.targets(live.prometheus).set_index("instance")["up"]
    assert dict(up) == {"node-1": 1, "node-2": 0, "node-3": 1}
    live.until("peer_count", Status.OK, ())


def test_live_a_stalled_height_alerts_and_a_reset_one_does_not(live: Live) -> None:
    live.until("block_growth", Status.OK, ())
    live.until("block_growth", Status.ALERT, ("node-1", "node-2", "node-3"), growing=False)
    live.until("block_growth", Status.OK, ())
    live.started = time.monotonic()  # all begin again at 1000, and grow
    end = time.monotonic() + 5
    while time.monotonic() < end:
        live.say()
        assert live.check("block_growth").status is not Status.ALERT
        time.sleep(0.2)
    live.until("block_growth", Status.OK, ())


def test_live_all_targets_down_alerts_as_missing_and_nothing_is_ok(live: Live) -> None:
    live.until("metrics_present", Status.OK, ())
    down = {"node_1": None, "node_2": None, "node_3": None}
    finding = live.until("metrics_present", Status.ALERT, ("blockchain_height", "network_peers"), **down)
    assert "0 series" in finding.summary
    for name in ("block_growth", "peer_count"):
        assert live.check(name).status is Status.UNKNOWN, name  # absent is not standing still, and not no peers
    with pytest.raises(NoData):
        metrics.blockchain_height(live.prometheus)
    live.until("metrics_present", Status.OK, ())


def test_live_prometheus_own_alerts_agree_with_ours(live: Live) -> None:
    assert len(live.prometheus.alerting_rules()) == len(Signals.model_fields)
    assert set(live.prometheus.alerting_rules()["health"]) <= {"ok", "unknown"}
    live.until("peer_count", Status.ALERT, ("node-3",), node_3=1.0)

    def firing() -> list[str]:
        live.say(node_3=1.0)
        alerts = live.prometheus.alerts()
        return alerts.loc[alerts["state"] == "firing", "alert"].tolist()

    server.until(lambda: "PeerCountLow" in firing(), "PeerCountLow fires in Prometheus")
    server.until(lambda: (live.say(), live.prometheus.alerts().empty)[1], "no alert is left")
