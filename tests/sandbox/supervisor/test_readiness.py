"""`sandbox up`, `run` and `heal` return when every health question can be answered."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from xai_runbook import sandbox
from xai_runbook.reports.check import run_questions
from xai_runbook.sandbox.supervisor import readiness

READY = {"scrapes": 2, "value": "1", "newest": True, "panels": True, "health": "ok"}


class Stub(ThreadingHTTPServer):
    """A Prometheus whose `world` says what it can answer; every request for targets counts as a new scrape."""

    world: dict[str, Any]
    scrapes = 0


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        world = self.server.world
        parameters = {name: values[0] for name, values in parse_qs(path.query).items()}
        match path.path.removeprefix("/api/v1/"):
            case "targets":
                self.server.scrapes = min(self.server.scrapes + 1, world["scrapes"])
                scraped = f"2026-11-28T00:00:0{self.server.scrapes}Z"
                health = "up" if self.server.scrapes else "unknown"
                data: Any = {
                    "activeTargets": [{"labels": {"instance": "node-1"}, "health": health, "lastScrape": scraped}]
                }
            case "rules":
                data = {"groups": [{"rules": [{"health": world["health"]}]}]}
            case "query_range":
                at = int(parameters["end"]) if world["newest"] else int(parameters["end"]) - 1
                data = {"result": [{"metric": {}, "values": [[at, world["value"]]]}]}
            case _:
                data = {"result": [{"metric": {}, "value": [0, "1"]}] if world["panels"] else []}
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serving(**world: Any) -> Iterator[Stub]:
    with Stub(("127.0.0.1", 0), Handler) as server:
        server.world = READY | world
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def wait(server: Stub, missing: dict[str, str] | None = None, seconds: float = 0.5) -> tuple[list[str], list[str]]:
    """Return what is still unanswered after that time, and the progress lines."""
    lines: list[str] = []
    pending = readiness.PendingQueries(f"http://127.0.0.1:{server.server_address[1]}", missing)
    return readiness.wait(pending, lines.append, lambda: False, seconds), lines


def test_ready_when_every_query_is_answered() -> None:
    with serving() as server:
        assert wait(server, seconds=30)[0] == []


@pytest.mark.parametrize(
    ("world", "awaited"),
    [
        ({"scrapes": 0}, "scrapes of node-1"),
        ({"scrapes": 1}, "scrapes of node-1"),
        ({"value": "NaN"}, "sync_lag"),
        ({"newest": False}, "block_growth"),
        ({"panels": False}, "System Resources / Disks busy"),
        ({"health": "unknown"}, "rules"),
    ],
)
def test_waits_for_each_kind_of_answer_and_names_it(world: dict[str, Any], awaited: str) -> None:
    with serving(**world) as server:
        left, lines = wait(server, seconds=1.0)
    assert awaited in left
    assert lines and lines[-1].startswith("waiting for data: ")


def test_request_signals_accept_nan_when_there_are_no_requests() -> None:
    with serving(value="NaN") as server:
        left, _ = wait(server, seconds=1.0)
    assert not {"api_errors", "api_latency"} & set(left)


def test_metrics_of_a_missing_exporter_are_not_awaited() -> None:
    pending = readiness.PendingQueries("http://127.0.0.1:9")
    fewer = readiness.PendingQueries("http://127.0.0.1:9", {"postgres-exporter": "", "node-exporter": ""})
    left_out = {*pending.signals, *pending.panels} - {*fewer.signals, *fewer.panels}
    assert "database_connections" in left_out and "System Resources / Disks busy" in left_out
    assert "block_growth" in fewer.signals


def test_unreachable_prometheus_is_awaited_until_the_deadline() -> None:
    with serving() as server:
        port = server.server_address[1]
    began = time.monotonic()
    assert readiness.wait(readiness.PendingQueries(f"http://127.0.0.1:{port}"), print, lambda: False, 0.5) == [
        "Prometheus"
    ]
    assert 0.4 < time.monotonic() - began < 30


def test_check_is_ok_right_after_up_and_has_no_unknown_after_heal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_SANDBOX", str(tmp_path / "run"))
    program = [sys.executable, "-P", "-m", "xai_runbook.cli.main"]
    try:
        up = subprocess.run([*program, "sandbox", "up"], capture_output=True, text=True)
        assert up.returncode == 0, up.stderr
        assert "no data yet" not in up.stdout
        checked = subprocess.run([*program, "check"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
        for fault in ("prometheus-down", "target-gone"):
            sandbox.break_(fault)
            sandbox.heal(fault)
            answers = [
                answer.finding for answer in run_questions("sandbox").answers if answer.section == "02_monitoring"
            ]
            assert [finding.name for finding in answers if finding and finding.status == "unknown"] == [], fault
    finally:
        sandbox.down()
