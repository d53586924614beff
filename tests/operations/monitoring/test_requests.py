"""Requests from a real Prometheus: classic histograms from history, and a native one scraped as protobuf."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support import prometheus_server as server
from tests.support.native_histogram import NativeExporter
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.errors import InputError, NoData
from xai_runbook.model.findings import Status
from xai_runbook.operations.monitoring import alert_evaluation, metrics, requests

STEP = 15
NAME = "http_request_duration_seconds"


@pytest.fixture(scope="module")
def classic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two hours of: /fast 6 a second in 0.1 s; /slow 4 a second of which half take over a second; node-2 idle."""
    now = int(time.time()) // STEP * STEP
    short = range(now - 7200, now + 900, STEP)

    def rising(rate: float) -> dict[int, float | str]:
        return {at: (at - now + 100_000) * rate for at in short}

    series: dict[str, dict[int, float | str]] = {}
    for instance, route, buckets, busy in (
        ("node-1", "/fast", {"0.1": 6, "1": 6, "4": 6, "+Inf": 6}, 0.6),
        ("node-1", "/slow", {"0.1": 0, "1": 2, "4": 3, "+Inf": 4}, 10.0),
        ("node-2", "/fast", {"0.1": 0, "1": 0, "4": 0, "+Inf": 0}, 0.0),
    ):
        own = f'instance="{instance}",path="{route}"'
        for bound, rate in buckets.items():
            series[f'{NAME}_bucket{{{own},le="{bound}"}}'] = rising(rate)
        series[f"{NAME}_count{{{own}}}"] = rising(buckets["+Inf"])
        series[f"{NAME}_sum{{{own}}}"] = rising(busy)
    for instance, code, rate in (
        ("node-1", "200", 8),
        ("node-1", "204", 1),
        ("node-1", "503", 1),
        ("node-2", "200", 0),
        ("node-3", "<aborted>", 1),
    ):
        series[f'http_requests_total{{instance="{instance}",code="{code}",path="/a"}}'] = rising(rate)
    with server.running(tmp_path_factory.mktemp("prometheus"), past=server.history(series)) as address:
        yield address


@pytest.fixture
def prometheus(classic: str) -> Prometheus:
    """A handle with other label names than the defaults."""
    return server.handle(classic, metrics={"route_label": "path", "status_label": "code"})


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with server.serving(NativeExporter().answer) as exporter:
        flags = ("--enable-feature=native-histograms",)
        folder = tmp_path_factory.mktemp("native")
        with server.running(folder, exporters={"node-1": exporter}, flags=flags) as address:
            handle = server.handle(address, windows={"requests": "4s"})
            prometheus = Prometheus(handle.access.model_copy(update={"step": "1s"}), handle.settings)
            query = f"histogram_count(rate({NAME}[4s])) > 70"
            server.until(lambda: not prometheus.instant(query).empty, "a native histogram's rate")
            yield prometheus


def by_route(frame: Any, instance: str = "node-1") -> Any:
    return frame[frame["instance"] == instance].set_index("route")


def test_apdex_and_the_share_within_the_limit(prometheus: Prometheus) -> None:
    limit = server.limits().troubleshooting.api_latency
    ratios = by_route(requests.apdex(prometheus, limit))
    assert ratios.loc["/fast", ["satisfied_ratio", "apdex"]].tolist() == pytest.approx([1, 1])
    slow = ratios.loc["/slow"]
    assert slow["satisfied_ratio"] == pytest.approx(0.5, rel=1e-6)
    assert slow["tolerated_ratio"] == pytest.approx(0.75, rel=1e-6)
    assert slow["apdex"] == pytest.approx(0.625, rel=1e-6) and slow["exact"]
    idle = by_route(requests.apdex(prometheus, limit), "node-2").loc["/fast"]
    assert math.isnan(idle["satisfied_ratio"]) and idle["requests_per_second"] == 0


def test_apdex_is_interpolated_between_buckets_and_nan_beyond_the_last(
    prometheus: Prometheus,
) -> None:
    limit = server.limits().troubleshooting.api_latency
    half = by_route(requests.apdex(prometheus, replace(limit, threshold=0.55))).loc["/slow"]
    assert half["satisfied_ratio"] == pytest.approx(0.25, rel=1e-6) and not half["exact"]
    beyond = by_route(requests.apdex(prometheus, replace(limit, threshold=2.0))).loc["/slow"]
    assert beyond["satisfied_ratio"] == pytest.approx(0.5 + 0.25 / 3, rel=1e-6)
    assert math.isnan(beyond["tolerated_ratio"]) and math.isnan(beyond["apdex"])
    for wrong in (replace(limit, threshold=0.0), server.limits().monitoring.peer_count):
        with pytest.raises(InputError, match="is not a limit in seconds"):
            requests.apdex(prometheus, wrong)


def test_the_route_that_takes_most_of_the_time_comes_first(prometheus: Prometheus) -> None:
    spent = requests.time_spent(prometheus)
    assert spent["route"].tolist() == ["/slow", "/fast"]
    assert spent["busy_seconds"].tolist() == pytest.approx([10, 0.6], rel=1e-6)
    assert spent["mean_seconds"].tolist() == pytest.approx([2.5, 0.1], rel=1e-6)
    assert spent["share_ratio"].sum() == pytest.approx(1)


def test_responses_by_class_and_an_invalid_status(prometheus: Prometheus) -> None:
    rates = requests.responses(prometheus).set_index(["instance", "status_class"])
    assert rates.loc[("node-1", "2xx"), "requests_per_second"] == pytest.approx(9, rel=1e-6)
    assert rates.loc[("node-1", "5xx"), "share_ratio"] == pytest.approx(0.1, rel=1e-6)
    assert math.isnan(rates.loc[("node-2", "2xx"), "share_ratio"])
    assert rates.loc[("node-3", "other"), "share_ratio"] == 1
    rate = requests.error_rate(prometheus).set_index("instance")
    assert rate.loc["node-1", "error_ratio"] == pytest.approx(0.1, rel=1e-6)
    assert math.isnan(rate.loc["node-3", "error_ratio"])  # nothing is known of what has no status


def test_the_alert_uses_the_label_from_the_settings(prometheus: Prometheus) -> None:
    finding = alert_evaluation.check_alert(
        metrics.signal(prometheus, server.limits().monitoring.api_errors),
        server.limits().monitoring.api_errors,
    )
    assert finding.status is Status.ALERT and finding.targets == ("node-1",)


def test_histories_for_charts(prometheus: Prometheus) -> None:
    latency = requests.latency_history(prometheus, "1h")
    assert list(latency.columns) == ["quantile", "at", "value"]
    assert list(latency["quantile"].cat.categories) == ["p50", "p95", "p99"]
    assert latency[latency["quantile"] == "p99"]["value"].iloc[-1] == 4
    traffic = requests.traffic_history(prometheus, "1h")
    last = traffic[traffic["at"] == traffic["at"].max()].set_index("status_class")["value"]
    assert dict(last) == pytest.approx({"2xx": 9, "5xx": 1, "other": 1}, rel=1e-6)
    with pytest.raises(InputError, match="not a quantile"):
        requests.latency_history(prometheus, "1h", quantiles=(95,))


def test_no_histogram_of_either_kind_is_no_data(classic: str) -> None:
    elsewhere = server.handle(classic, metrics={"request_seconds": "no_such", "requests": "none_such"})
    limit = server.limits().troubleshooting.api_latency
    for ask in (
        lambda: requests.request_latency(elsewhere),
        lambda: requests.apdex(elsewhere, limit),
        lambda: requests.time_spent(elsewhere),
        lambda: requests.latency_history(elsewhere, "1h"),
        lambda: requests.responses(elsewhere),
        lambda: requests.traffic_history(elsewhere, "1h"),
    ):
        with pytest.raises(NoData, match=r"no series of no(_|ne_)such.*not the same as 0"):
            ask()


def test_quantiles_of_a_native_histogram(native: Prometheus) -> None:
    latency = requests.request_latency(native, quantiles=(0.25, 0.75)).set_index(["route", "quantile"])
    assert 2**-4 < latency.loc[("/half", 0.25), "seconds"] <= 2**-3
    assert 1 < latency.loc[("/half", 0.75), "seconds"] <= 2
    assert latency.loc[("/half", 0.75), "requests_per_second"] == pytest.approx(100, rel=0.5)
    assert not latency["in_last_bucket"].any()
    assert math.isnan(latency.loc[("/idle", 0.75), "seconds"])


def test_apdex_and_time_by_route_of_a_native_histogram(native: Prometheus) -> None:
    ratios = by_route(requests.apdex(native, server.limits().troubleshooting.api_latency))
    assert ratios.loc["/half", "satisfied_ratio"] == pytest.approx(0.5, abs=0.05)
    assert ratios.loc["/half", "tolerated_ratio"] == pytest.approx(1, abs=0.01)
    assert math.isnan(ratios.loc["/idle", "satisfied_ratio"])
    spent = requests.time_spent(native).set_index("route")
    assert spent.loc["/half", "mean_seconds"] == pytest.approx(0.8, rel=0.01)
    assert spent.loc["/half", "share_ratio"] == pytest.approx(1)


def test_the_alert_works_with_a_native_histogram(native: Prometheus) -> None:
    limit = replace(server.limits().troubleshooting.api_latency, duration="0s")
    finding = alert_evaluation.check_alert(metrics.signal(native, limit), limit)
    assert finding.status is Status.ALERT and finding.targets == ("node-1",)
    history = requests.latency_history(native, "1m")
    assert 1 < history[history["quantile"] == "p95"]["value"].iloc[-1] <= 2
