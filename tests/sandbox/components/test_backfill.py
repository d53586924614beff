"""The backfilled history: its content, and that a real Prometheus reads it and no alert condition holds in it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
import pytest

from tests.support.pace import stretched
from tests.support.started import eventually
from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import backfill, programs
from xai_runbook.sandbox.components.backfill_series import AHEAD_SECONDS, DAY_SECONDS, Series, all_series
from xai_runbook.sandbox.supervisor.component import START_HEIGHT, Layout, free_ports
from xai_runbook.system import sandbox_state

Query = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def history() -> tuple[int, list[Series]]:
    now = int(time.time())
    return now, list(all_series(now, "xai_blockchain"))


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    """Yield a function for instant queries to a Prometheus that holds the history and scrapes nothing."""
    needed = ("prometheus", "promtool")
    if missing := programs.fetch(needed):
        pytest.skip("; ".join(missing.values()))
    prometheus, promtool = (programs.find(name) for name in needed)
    assert prometheus and promtool
    layout = Layout(
        tmp_path_factory.mktemp("history"), sandbox_state.cache_folder(), free_ports(("prometheus", "postgres"))
    )
    data = layout.part_folder("prometheus") / "data"
    now = time.time()
    started = time.monotonic()
    backfill.finish(backfill.start(layout, promtool, data, now), data)
    assert time.monotonic() - started < stretched(10), "about 1.5 s on an idle core"
    config = layout.folder / "prometheus.yml"
    config.write_text("scrape_configs: []\n")
    argv = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={data}", "--log.level=error"]
    process = subprocess.Popen([*argv, f"--web.listen-address=127.0.0.1:{layout.ports['prometheus']}"])

    def instant_query(query: str) -> list[dict[str, Any]]:
        parameters = urlencode({"query": query, "time": str(int(now))})
        with urlopen(f"{layout.url('prometheus')}/api/v1/query?{parameters}", timeout=30) as response:
            result = json.load(response)["data"]["result"]
        assert isinstance(result, list)
        return result

    try:
        eventually(lambda: instant_query("vector(1)"))
        yield instant_query
    finally:
        process.terminate()
        process.wait(10)


def test_every_eachcovers_the_day(history: tuple[int, list[Series]]) -> None:
    now, series = history
    assert len(series) > 200
    for each in series:
        assert each.times[0] == now - DAY_SECONDS
        assert each.times[-1] == now + AHEAD_SECONDS - 1
        steps = np.diff(each.times)
        assert set(np.unique(steps)) <= {*range(1, 61)}
        assert len(each.values) == len(each.times)


def test_counters_and_heights_only_rise(history: tuple[int, list[Series]]) -> None:
    rising = ("_total", "_bucket", "_count", "_sum", "_height", "_commit")
    result = [each for each in history[1] if each.name.endswith(rising) and each.name != "pg_stat_activity_count"]
    assert len(result) > 150
    for each in result:
        assert (np.diff(each.values) >= 0).all(), f"{each.name} {each.labels}"
        assert each.values[0] >= 0


def test_heights_end_where_the_nodes_start(history: tuple[int, list[Series]]) -> None:
    now, series = history
    miner = next(each for each in series if each.name == "blockchain_height" and each.labels["instance"] == "node-1")
    at_start = int(miner.values[int(np.searchsorted(miner.times, now))])
    assert START_HEIGHT - 1 <= at_start <= START_HEIGHT
    assert START_HEIGHT <= miner.values[-1] <= START_HEIGHT + AHEAD_SECONDS / 1.6
    assert 60_000 < at_start - miner.values[0] < 90_000


def test_histogram_buckets_are_cumulative(history: tuple[int, list[Series]]) -> None:
    buckets = [
        each
        for each in history[1]
        if each.name == "http_request_duration_seconds_bucket"
        and (each.labels["instance"], each.labels["route"]) == ("node-2", "/api/v1/blocks/{height}")
    ]
    ordered = sorted(buckets, key=lambda each: float(each.labels["le"]))
    assert len(ordered) == 12
    for smaller, larger in pairwise(ordered):
        assert (smaller.values <= larger.values).all()


def test_traffic_varies_over_the_day(history: tuple[int, list[Series]]) -> None:
    requests = next(
        each for each in history[1] if each.name == "http_requests_total" and "blockchain/info" in each.labels["route"]
    )
    hourly = np.interp(np.arange(history[0] - DAY_SECONDS, history[0] + 1, 3600), requests.times, requests.values)
    rates = np.diff(hourly)
    assert rates.max() > 2 * rates.min() > 0


def test_prometheus_holds_every_series(query: Query, history: tuple[int, list[Series]]) -> None:
    assert int(query('count({__name__=~".+"})')[0]["value"][1]) == len(history[1])
    early = query('blockchain_height{instance="node-3", job="xai-node"} offset 1435m')
    assert 60_000 < START_HEIGHT - int(early[0]["value"][1]) < 90_000


@pytest.mark.parametrize(
    ("condition", "duration"),
    [
        ('1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[4m])) > 0.8', "5m"),
        ("rate(sandbox_cpu_seconds_total[4m]) / sandbox_cpu_quota_cores > 0.8", "5m"),
        ("sandbox_memory_bytes / sandbox_memory_quota_bytes > 0.85", "5m"),
        ("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes > 0.85", "5m"),
        ("1 - sandbox_disk_used_bytes / sandbox_disk_quota_bytes < 0.1", "1m"),
        (
            '(sum by (instance) (rate(http_requests_total{status=~"5.."}[5m]))'
            " or sum by (instance) (0 * rate(http_requests_total[5m]))) > 0",
            "1m",
        ),
        ("histogram_quantile(0.95, sum by (instance, le) (rate(http_request_duration_seconds_bucket[5m]))) > 1", "1m"),
        (
            "sum by (instance) (pg_stat_activity_count) / sum by (instance) (pg_settings_max_connections - 3) > 0.8",
            "5m",
        ),
        ("network_peers < 3", "1m"),
        ("blockchain_height - blockchain_height offset 30m < 1", "1m"),
        ("blockchain_height - blockchain_height offset 2m < 1", "1m"),
        ("blockchain_height - blockchain_height offset 10s < 1", "1m"),  # as the sandbox's own rule asks
        ("network_best_height - on (instance) blockchain_height > 10", "1m"),
        ("up < 1", "1m"),
        ("count(blockchain_height) < 3", "1m"),
    ],
)
def test_no_alert_condition_holds_during_the_history(query: Query, condition: str, duration: str) -> None:
    expression = condition.rpartition(" ")[0].rpartition(" ")[0]
    counts = query(f"count_over_time(({expression})[23h:1m])")
    assert counts, "the expression has values"
    assert all(float(each["value"][1]) > 1300 for each in counts)
    assert not periods_beyond(query, condition, duration)


def test_conditions_that_hold_are_found(query: Query) -> None:
    assert periods_beyond(query, "network_peers < 4", "5m")
    assert periods_beyond(query, "blockchain_height - blockchain_height offset 2m < 200", "5m")


def periods_beyond(query: Query, condition: str, duration: str) -> list[dict[str, Any]]:
    """Return the series for which the condition held for the duration within the last 23 hours."""
    minutes = int(duration.removesuffix("m"))
    return query(f"max_over_time(count_over_time(({condition})[{minutes}m:1m])[23h:1m]) >= {minutes}")


def test_a_failing_promtool_raises_sandbox_error(tmp_path: Path) -> None:
    layout = Layout(tmp_path, tmp_path, free_ports(("postgres",)))
    promtool = tmp_path / "promtool"
    promtool.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    promtool.chmod(0o700)
    with pytest.raises(SandboxError, match="history could not be written"):
        backfill.finish(backfill.start(layout, promtool, tmp_path / "data", time.time()), tmp_path / "data")
    assert "broken" in layout.log_file("history").read_text()
    assert not (tmp_path / backfill.TEXT_FILE).exists()
