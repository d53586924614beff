"""Metrics from a real Prometheus with a day of history."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support import prometheus_server as server
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.errors import InputError, NoData
from xai_runbook.model.findings import Status
from xai_runbook.model.window import Window
from xai_runbook.operations.monitoring import alert_evaluation, metrics, requests

STEP = 15


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    now = int(time.time()) // STEP * STEP
    short, long = range(now - 7200, now + 900, STEP), range(now - 90_000, now + 900, 60)

    def rising(rate: float) -> dict[int, float | str]:
        return {at: (at - now + 100_000) * rate for at in short}

    buckets = {"0.1": 5.0, "0.5": 8.0, "1": 9.0, "+Inf": 10.0}
    series: dict[str, dict[int, float | str]] = {
        'blockchain_height{instance="node-1",job="xai"}': {at: 1_000_000 + (at - now) // 1800 for at in long},
        'network_peers{instance="node-1",job="xai"}': {at: 3.0 for at in short},
        'network_peers{instance="node-2",job="xai"}': {at: 5.0 for at in short if at < now - 600 or at > now + 1800},
        'process_cpu_seconds_total{instance="node-1",job="xai"}': rising(0.4),
        'process_resident_memory_bytes{instance="node-1",job="xai"}': {at: 5e8 for at in short},
        'process_open_fds{instance="node-1",job="xai"}': {at: 900.0 for at in short},
        'process_max_fds{instance="node-1",job="xai"}': {at: 1000.0 for at in short},
        'process_open_fds{instance="node-2",job="xai"}': {at: 9.0 for at in short},
        'go_gc_duration_seconds_sum{instance="node-1",job="xai"}': rising(0.02),
        'node_cpu_seconds_total{instance="host",cpu="0",mode="idle"}': rising(0.25),
        'node_cpu_seconds_total{instance="host",cpu="0",mode="user"}': rising(0.75),
        'node_memory_MemAvailable_bytes{instance="host"}': {at: 1.0 for at in short},
        'node_memory_MemTotal_bytes{instance="host"}': {at: 4.0 for at in short},
        'node_filesystem_avail_bytes{instance="host",mountpoint="/",fstype="ext4"}': {at: 9.0 for at in short},
        'node_filesystem_size_bytes{instance="host",mountpoint="/",fstype="ext4"}': {at: 10.0 for at in short},
        'node_filesystem_avail_bytes{instance="host",mountpoint="/data",fstype="ext4"}': {at: 2.0 for at in short},
        'node_filesystem_size_bytes{instance="host",mountpoint="/data",fstype="ext4"}': {at: 10.0 for at in short},
        'node_filesystem_avail_bytes{instance="host",mountpoint="/run",fstype="tmpfs"}': {at: 0.0 for at in short},
        'node_filesystem_size_bytes{instance="host",mountpoint="/run",fstype="tmpfs"}': {at: 10.0 for at in short},
        'node_memory_MemAvailable_bytes{instance="host",job="again"}': {at: 1.0 for at in short},
        'node_memory_MemTotal_bytes{instance="host",job="again"}': {at: 4.0 for at in short},
        'node_filesystem_avail_bytes{instance="host",mountpoint="/var/lib/lxcfs",fstype="fuse.lxcfs"}': {
            at: 0.0 for at in short
        },
        'node_filesystem_size_bytes{instance="host",mountpoint="/var/lib/lxcfs",fstype="fuse.lxcfs"}': {
            at: 0.0 for at in short
        },
        'lag_height{instance="node-1",job="xai"}': {at: 90.0 for at in short},
        'lag_height{instance="node-1",job="again"}': {at: 89.0 for at in short},
        'lag_best{instance="node-1",job="xai"}': {at: 95.0 for at in short},
        'lag_height{instance="node-2",job="xai"}': {at: 90.0 for at in short},
        'http_requests_total{instance="node-1",route="/a",status="200"}': rising(9),
        'http_requests_total{instance="node-1",route="/a",status="503"}': rising(1),
        'http_requests_total{instance="node-2",route="/a",status="200"}': rising(4),
        'http_requests_total{instance="node-3",route="/a",status="200"}': rising(0),
    }
    for bound, rate in buckets.items():
        for instance, factor in (("node-1", 1.0), ("node-3", 0.0)):
            name = f'http_request_duration_seconds_bucket{{instance="{instance}",route="/a",le="{bound}"}}'
            series[name] = rising(rate * factor)
            if bound == "+Inf":
                series[f'http_request_duration_seconds_count{{instance="{instance}",route="/a"}}'] = rising(
                    rate * factor
                )
    with server.running(tmp_path_factory.mktemp("prometheus"), past=server.history(series)) as address:
        yield address


@pytest.fixture
def prometheus(url: str) -> Prometheus:
    return server.handle(url)


def test_the_height_is_an_index_with_its_age(prometheus: Prometheus, url: str) -> None:
    heights = metrics.blockchain_height(prometheus)
    assert list(heights.columns) == ["node", "height", "age_seconds"]
    assert heights["node"].tolist() == ["node-1"]
    assert heights["height"].tolist() == [1_000_000]
    assert 0 <= heights["age_seconds"].iloc[0] <= 61
    counted = server.handle(url, metrics={"height_is": "count"})
    assert metrics.blockchain_height(counted)["height"].tolist() == [999_999]


def test_a_metric_that_does_not_exist_is_no_data_and_not_a_zero(url: str) -> None:
    elsewhere = server.handle(url, metrics={"height": "no_such_height", "peers": "no_such_peers"})
    with pytest.raises(NoData, match="no series of no_such_height") as raised:
        metrics.blockchain_height(elsewhere)
    assert "not the same as 0" in str(raised.value) and "[metrics]" in raised.value.hint
    with pytest.raises(NoData, match="no_such_peers"):
        metrics.network_peers(elsewhere)
    with pytest.raises(NoData, match="peer_count"):
        metrics.signal(elsewhere, server.limits().monitoring.peer_count)
    with pytest.raises(NoData, match="targets"):
        metrics.targets(elsewhere)


def test_peers_are_only_from_recently_scraped_nodes(prometheus: Prometheus) -> None:
    peers = metrics.network_peers(prometheus)
    assert dict(zip(peers["node"], peers["peers"], strict=True)) == {"node-1": 3.0}  # node-2 ended ten minutes ago


def test_cpu_is_in_cores_and_memory_is_the_runbooks_cpu_query(prometheus: Prometheus) -> None:
    cpu, memory = metrics.process_cpu(prometheus), metrics.process_memory(prometheus)
    assert cpu.loc[0, "cores_used"] == pytest.approx(0.4, rel=1e-6)
    assert memory.loc[0, "resident_bytes"] == 5e8
    assert list(cpu.columns) == ["job", "instance", "cores_used"] and cpu.loc[0, "job"] == "xai"


def test_open_files_against_each_processs_limit(prometheus: Prometheus) -> None:
    files = metrics.process_files(prometheus).set_index("instance")
    assert files.loc["node-1", ["open_files", "max_open_files", "used_ratio"]].tolist() == [900, 1000, 0.9]
    assert math.isnan(files.loc["node-2", "used_ratio"])  # it does not tell its maximum: not 0
    limit = server.limits().monitoring.open_files
    finding = alert_evaluation.check_alert(metrics.signal(prometheus, limit), limit)
    assert finding.status is Status.ALERT and finding.targets == ("node-1",)


def test_garbage_collection_is_a_share_of_the_time(prometheus: Prometheus) -> None:
    assert metrics.process_gc(prometheus).loc[0, "gc_ratio"] == pytest.approx(0.02, rel=1e-6)


def test_a_host_with_its_fullest_disk(prometheus: Prometheus) -> None:
    (host,) = metrics.hosts(prometheus).to_dict("records")
    assert host == {
        "instance": "host",
        "cpu_ratio": pytest.approx(0.75, rel=1e-6),
        "memory_ratio": 0.75,
        "mountpoint": "/data",
        "disk_ratio": 0.8,
    }


def test_latency_has_quantiles_traffic_and_marks_the_last_bucket(prometheus: Prometheus) -> None:
    latency = requests.request_latency(prometheus, quantiles=(0.5, 0.95))
    busy = latency[latency["instance"] == "node-1"].set_index("quantile")
    assert busy.loc[0.5, "seconds"] == pytest.approx(0.1, rel=1e-3)
    assert busy.loc[0.5, "requests_per_second"] == pytest.approx(10, rel=1e-3)
    assert not busy.loc[0.5, "in_last_bucket"]
    assert busy.loc[0.95, "seconds"] == 1.0 and busy.loc[0.95, "in_last_bucket"]
    quiet = latency[latency["instance"] == "node-3"]
    assert quiet["seconds"].isna().all() and (quiet["requests_per_second"] == 0).all()
    assert not quiet["in_last_bucket"].any()
    with pytest.raises(InputError, match="quantiles"):
        requests.request_latency(prometheus, quantiles=(95,))


def test_the_literal_query_of_the_runbook_for_latency_has_no_series(prometheus: Prometheus) -> None:
    assert prometheus.instant("http_request_duration_seconds").empty


def test_the_error_rate_without_errors_is_0_and_without_requests_nan(prometheus: Prometheus) -> None:
    rate = requests.error_rate(prometheus).set_index("instance")
    assert rate.loc["node-1", "error_ratio"] == pytest.approx(0.1, rel=1e-6)
    assert rate.loc["node-2", "error_ratio"] == 0
    assert math.isnan(rate.loc["node-3", "error_ratio"]) and rate.loc["node-3", "requests_per_second"] == 0


def test_history_takes_limits_and_metrics_and_about_500_points(prometheus: Prometheus) -> None:
    heights = metrics.history(prometheus, "height", "24h")
    assert 450 <= len(heights) <= 501
    assert heights["value"].is_monotonic_increasing
    assert "__name__" not in heights and heights["instance"].dtype == "category"
    peers = metrics.history(prometheus, "peer_count", Window.parse("1h"))
    assert set(peers["instance"]) == {"node-1", "node-2"}
    with pytest.raises(InputError, match="'hieght' is not a signal or metric"):
        metrics.history(prometheus, "hieght")


def test_rates_in_a_chart_look_back_far_enough_for_its_points(url: str) -> None:
    hasty = server.handle(url, windows={"rate": "10s", "requests": "10s"})  # less than the history's scrapes are apart
    frame = metrics.history(hasty, "api_errors", "2h")
    failing = frame[frame["instance"] == "node-1"]["value"]
    assert len(failing) > 400
    assert failing.iloc[-1] == pytest.approx(0.1, rel=1e-6)


def test_the_runbooks_literal_range_is_outside_retention(prometheus: Prometheus) -> None:
    seed = Window(datetime.fromtimestamp(1705334400, UTC), datetime.fromtimestamp(1705420800, UTC))
    with pytest.raises(NoData, match="outside retention"):
        metrics.history(prometheus, "height", seed)


def test_a_signal_covers_twice_the_duration_at_the_rules_step(prometheus: Prometheus) -> None:
    limit = server.limits().monitoring.peer_count
    frame = metrics.signal(prometheus, limit)
    assert frame.attrs["step_seconds"] == STEP
    seconds = (frame.attrs["end"] - frame.attrs["start"]).total_seconds()
    assert 600 + 60 <= seconds <= 600 + 60 + 3 * STEP
    assert (frame["at"].astype("int64") % (STEP * 1000) == 0).all()
    with pytest.raises(InputError, match="no Prometheus rule judges"):
        metrics.signal(prometheus, server.limits().troubleshooting.node_reachable)


def test_a_signal_marks_idle_targets(prometheus: Prometheus) -> None:
    frame = metrics.signal(prometheus, server.limits().troubleshooting.api_latency)
    idle = frame.groupby("instance", observed=True)["idle"].all()
    assert dict(idle) == {"node-1": False, "node-3": True}


def test_a_status_label_of_another_name_is_no_data_and_not_no_errors(url: str) -> None:
    elsewhere = server.handle(url, metrics={"status_label": "code"})  # what the Go client library calls it
    with pytest.raises(NoData, match="api_errors"):
        metrics.signal(elsewhere, server.limits().monitoring.api_errors)
    rates = requests.error_rate(elsewhere)
    assert rates[["errors_per_second", "error_ratio"]].isna().all(axis=None) and len(rates) == 3


def test_a_node_that_two_jobs_scrape_has_one_lag_and_one_without_a_reference_is_unknown(url: str) -> None:
    prometheus = server.handle(url, metrics={"height": "lag_height", "best_height": "lag_best"})
    limit = server.limits().monitoring.sync_lag
    frame = metrics.signal(prometheus, limit)
    assert set(frame.loc[frame["instance"] == "node-1", "value"]) == {5.0}
    finding = alert_evaluation.check_alert(frame, limit)
    assert finding.status is Status.UNKNOWN and finding.targets == ("node-2",)
    alone = server.handle(url, metrics={"height": "lag_height", "best_height": "no_such"})
    with pytest.raises(NoData, match="sync_lag"):
        metrics.signal(alone, limit)


def test_a_file_system_without_a_size_is_ignored(prometheus: Prometheus) -> None:
    frame = metrics.signal(prometheus, server.limits().monitoring.disk_free)
    assert set(frame["mountpoint"]) == {"/", "/data"} and frame["value"].notna().all()


def test_a_host_that_two_jobs_scrape_is_one_row(prometheus: Prometheus) -> None:
    assert metrics.hosts(prometheus)["instance"].tolist() == ["host"]
