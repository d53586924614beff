"""Prometheus, its exporters and the workload, in the sandbox that the tests share."""

from __future__ import annotations

import json
import os
import time
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.support.started import eventually
from xai_runbook.environment import connect
from xai_runbook.sandbox.supervisor.component import START_HEIGHT

State = dict[str, Any]
Query = Callable[..., Any]


@pytest.fixture(scope="module")
def address(sandbox: State) -> str:
    if "prometheus" in sandbox["missing"]:
        pytest.skip(sandbox["missing"]["prometheus"])
    return f"http://127.0.0.1:{sandbox['parts']['prometheus']['port']}"


@pytest.fixture(scope="module")
def query_api(address: str) -> Query:
    """Return a function that queries Prometheus' API and returns the answer's data."""

    def request(path: str, **parameters: str) -> Any:
        with urlopen(f"{address}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    return request


def series(query_api: Query, match: str, start: float, end: float) -> set[tuple[tuple[str, str], ...]]:
    result = query_api("series", **{"match[]": match, "start": str(start), "end": str(end)})
    for labels in result:
        if labels["__name__"] == "pg_stat_activity_count":  # newer exporters split it further; only its sum is used
            for label in ("usename", "application_name", "backend_type", "wait_event_type", "wait_event"):
                labels.pop(label, None)
    return {tuple(sorted(labels.items())) for labels in result}


@pytest.mark.parametrize("job", ["xai-node", "sandbox", "node", "postgres"])
def test_live_series_continue_the_history(query_api: Query, job: str, sandbox: State) -> None:
    if {"node": "node-exporter", "postgres": "postgres-exporter"}.get(job, "prometheus") not in sandbox["parts"]:
        pytest.skip(f"no {job} exporter in this sandbox")
    now = time.time()
    match = f'{{job="{job}"}}'
    before = series(query_api, match, now - 7200, now - 3600)
    assert len(before) > 5
    with suppress(AssertionError):
        eventually(lambda: before <= series(query_api, match, time.time() - 10, time.time()))
    assert before - series(query_api, match, time.time() - 10, time.time()) == set()


def test_the_height_rises_from_the_history_into_live_data(query_api: Query, sandbox: State) -> None:
    # the sandbox may have run for many minutes already
    evaluated_at = min(time.time(), datetime.fromisoformat(sandbox["ready_at"]).timestamp() + 90)
    (result,) = query_api("query", query='blockchain_height{instance="node-1"}[3m]', time=evaluated_at)["result"]
    samples = [(float(at), int(value)) for at, value in result["values"]]
    assert samples[0][1] < START_HEIGHT < samples[-1][1]
    for (at, height), (next_at, next_height) in pairwise(samples):
        assert 0 < next_at - at < 30
        assert next_height >= height


def test_the_rules_match_the_limits_and_are_evaluated(query_api: Query) -> None:
    (group,) = query_api("rules", type="alert")["groups"]
    assert {rule["labels"]["limit"] for rule in group["rules"]} >= {
        "cpu_used",
        "peer_count",
        "block_growth",
        "sync_lag",
    }
    eventually(lambda: all(rule["health"] == "ok" for rule in query_api("rules", type="alert")["groups"][0]["rules"]))
    for name in ("block_growth", "sync_lag", "peer_count", "cpu_used", "disk_free", "memory_used", "api_errors"):
        query = connect("sandbox").settings.promql(name)
        assert eventually(lambda query=query: query_api("query", query=query)["result"]), name


@pytest.mark.parametrize("path", ["-/quit", "-/reload", "api/v1/admin/tsdb/snapshot"])
def test_admin_endpoints_are_disabled(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urlopen(Request(f"{address}/{path}", method="POST"), timeout=30)
    with error.value as answer:
        message = answer.read()
    assert b"not enabled" in message or b"disabled" in message


def test_every_part_listens_on_loopback_only(sandbox: State) -> None:
    listening = set()
    for part in sandbox["parts"].values():
        for connection in psutil.Process(part["pid"]).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add((connection.laddr.ip, connection.laddr.port))
    assert {ip for ip, _ in listening} == {"127.0.0.1"}
    assert len(listening) >= 10


def test_no_password_in_arguments_or_environment(sandbox: State) -> None:
    passwords = [
        file.read_bytes().strip() for file in Path(os.environ["XAI_RUNBOOK_SANDBOX"]).glob("secrets/*.password")
    ]
    assert len(passwords) == 4
    for part in sandbox["parts"].values():
        for kind in ("cmdline", "environ"):
            content = Path(f"/proc/{part['pid']}/{kind}").read_bytes()
            assert not any(password in content for password in passwords)


def test_the_workload_sends_requests_to_every_node(query_api: Query) -> None:
    def rates() -> bool:
        result = query_api("query", query="sum by (instance) (rate(http_requests_total[15s]))")["result"]
        return len(result) == 3 and all(0.8 < float(sample["value"][1]) < 8 for sample in result)

    eventually(rates)
