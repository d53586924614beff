"""A real Prometheus for a test, with history written by promtool and an exporter whose text the test sets."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.operations.monitoring.alert_rules import alert_rules
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor.component import free_ports
from xai_runbook.settings.limits import Limits
from xai_runbook.settings.loading import defaults
from xai_runbook.settings.models import Settings


def program(name: str) -> str:
    """Return the program's path; skip the test if it is neither found nor fetched."""
    missing = programs.fetch([name])
    if missing:
        pytest.skip(missing[name])
    return str(programs.find(name))


def settings(url: str = "http://127.0.0.1:9", **tables: Any) -> Settings:
    """Return the shipped defaults for a Prometheus at `url`; `tables` are merged key by key."""
    return Settings.model_validate(merged(defaults(), {"prometheus": {"url": url}}, tables, {"name": "test"}))


def merged(under: dict[str, Any], *over: dict[str, Any]) -> dict[str, Any]:
    """Return the tables merged key by key; later ones win."""
    result = dict(under)
    for tables in over:
        for key, value in tables.items():
            are_tables = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if are_tables else value
    return result


def handle(url: str, **tables: Any) -> Prometheus:
    """Return a handle of the server at `url`."""
    made = settings(url, **tables)
    assert made.prometheus is not None
    return Prometheus(made.prometheus, made.promql_settings)


def limits() -> Limits:
    """Return the shipped limits."""
    return settings().limits


def rules(settings: Settings) -> str:
    """Return the rule file of these settings."""
    return alert_rules(settings, settings.limits, name=settings.name, step=settings.rule_step)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every GET by `server.answer(path) -> (status, content type, body)`."""

    def do_GET(self) -> None:
        status, kind, body = self.server.answer(self.path)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(answer: Any) -> Iterator[str]:
    """Serve `answer` on loopback; yield the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.answer = answer  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Exporter:
    """A scrape target: `text` is the next scrape's content; None makes the scrape fail."""

    def __init__(self) -> None:
        self.text: str | None = ""

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if self.text is None:
            return 500, "text/plain", b""
        return 200, "text/plain; version=0.0.4", self.text.encode()


def history(series: Mapping[str, Mapping[int, float | str]]) -> str:
    """Return OpenMetrics text of each series' (name and labels) values by Unix time."""
    lines: list[str] = []
    by_name: dict[str, list[str]] = {}
    for name in series:
        by_name.setdefault(name.partition("{")[0], []).append(name)
    for name, members in by_name.items():
        lines.append(f"# TYPE {name} unknown")
        lines += [f"{member} {value} {at}" for member in members for at, value in series[member].items()]
    return "\n".join([*lines, "# EOF", ""])


@contextmanager
def running(
    folder: Path,
    *,
    past: str = "",
    rules: str = "",
    exporters: Mapping[str, str] | None = None,
    flags: tuple[str, ...] = (),
    alertmanager: str = "",
) -> Iterator[str]:
    """Yield the address of a Prometheus that scrapes `exporters` (instance: address) every 200 ms.

    Alerts sent to an `alertmanager`, again every second, carry the external label region="test".
    """
    prometheus = program("prometheus")
    data = folder / "data"
    if past:
        (folder / "past.om").write_text(past)
        subprocess.run(
            [
                program("promtool"),
                "tsdb",
                "create-blocks-from",
                "--max-block-duration=24h",
                "openmetrics",
                str(folder / "past.om"),
                str(data),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
    config: dict[str, Any] = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "xai-node",
                "static_configs": [
                    {"targets": [address.removeprefix("http://")], "labels": {"instance": instance}}
                    for instance, address in (exporters or {}).items()
                ],
            }
        ],
    }
    if alertmanager:
        flags = (*flags, "--rules.alert.resend-delay=1s")
        config["global"]["external_labels"] = {"region": "test"}
        target = alertmanager.removeprefix("http://")
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]}
    if rules:
        (folder / "rules.yml").write_text(rules)
        config["rule_files"] = [str(folder / "rules.yml")]
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_ports(["prometheus"])["prometheus"]
    url = f"http://127.0.0.1:{port}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--storage.tsdb.retention.time=15d",
                *flags,
            ],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: process.poll() is not None or _ready(url), "Prometheus is ready")
        assert process.poll() is None, (folder / "prometheus.log").read_text()[-2000:]
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def until(condition: Any, what: str, seconds: float = 20) -> None:
    """Wait until `condition()` is true; fail with `what` was awaited."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)
