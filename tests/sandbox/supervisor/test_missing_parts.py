"""A part that the sandbox could not start is named first, with the reason; its questions take one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xai_runbook import sandbox
from xai_runbook.environment import NotConfiguredHandle, connect
from xai_runbook.errors import PartMissing
from xai_runbook.reports.report import record
from xai_runbook.reports.terminal import render
from xai_runbook.sandbox import loopback
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor import readiness, reaper

REASON = "PATH is not searched for prometheus"
OPTIONAL = {"pooler", "alertmanager", "node-exporter", "postgres-exporter"}


def running_sandbox(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment variables of a running sandbox that finds no programs but those in the folder's cache."""
    variables = {
        "XAI_RUNBOOK_SANDBOX": str(folder / "run"),
        "XAI_RUNBOOK_ENV": "sandbox",
        "XAI_RUNBOOK_SYSTEM_PROGRAMS": "no",
        "XAI_RUNBOOK_FETCH": "no",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    try:
        code, out = run_command(variables, "sandbox", "up")
        assert code == 0, out
        yield variables
    finally:  # also after a failed test
        sandbox.down(folder / "run")
    assert reaper.sandbox_pids(folder / "run") == []


def run_command(variables: dict[str, str], *arguments: str) -> tuple[int, str]:
    argv = [sys.executable, "-m", "xai_runbook.cli.main", *arguments]
    completed = subprocess.run(
        argv, env=os.environ | variables, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    return completed.returncode, completed.stdout or completed.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield a sandbox with PostgreSQL, Valkey and the nodes only."""
    yield from running_sandbox(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def without_exporters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield a sandbox with Prometheus and without the optional parts."""
    if missing := programs.fetch(["prometheus", "promtool"]):
        pytest.skip("; ".join(missing.values()))
    folder = tmp_path_factory.mktemp("optional")
    bin_folder = folder / "cache" / "xai-runbook" / "programs" / programs.folder().name / "prometheus" / "usr" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("prometheus", "promtool"):
        path = programs.find(name)
        assert path is not None
        (bin_folder / name).symlink_to(path)
    yield from running_sandbox(folder)


def test_check_names_missing_prometheus_first_and_once(bare: dict[str, str]) -> None:
    code, out = run_command(bare, "check")
    assert code == 3
    verdict, first, *rest = out.splitlines()
    assert verdict.startswith("UNKNOWN · sandbox")
    assert first.startswith(f"missing   prometheus is missing: {REASON}")
    text = " ".join(line.strip() for line in [first, *rest])
    assert "To get it: apt-get install prometheus," in text
    (line,) = [line for line in rest if "could not be asked" in line]
    assert line.startswith("unknown   2") and "questions could not be asked because of it: prometheus_reachable" in line
    assert [line for line in rest if line.startswith("unknown")] == [line], "exactly one line"
    assert "refused" not in out and "systemctl" not in out
    for part in OPTIONAL:
        assert f"missing   {part} is missing: " in out
    assert "not configured: alertmanager, pooler, grafana, database.proxy" in out
    assert "ok        database_reachable" in out and "ok        node_reachable" in out


def test_json_record_lists_missing_parts_and_every_finding(bare: dict[str, str]) -> None:
    code, out = run_command(bare, "check", "--json")
    report = json.loads(out)
    assert code == 3 and report["verdict"] == "unknown" and report["complete"]
    assert report["missing"]["prometheus"].startswith(REASON)
    assert {*OPTIONAL, "prometheus", "grafana"} == set(report["missing"])
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert findings["sync_lag"]["status"] == "unknown"
    assert findings["sync_lag"]["summary"].startswith(f"unknown, because prometheus is missing: {REASON}")
    assert {finding["status"] for finding in report["findings"]} == {"ok", "unknown"}


def test_report_names_missing_prometheus_on_screen_and_page(bare: dict[str, str], tmp_path: Path) -> None:
    code, out = run_command(bare, "report", "--out", str(tmp_path))
    assert code == 3
    assert out.splitlines()[1].startswith(f"missing   prometheus is missing: {REASON}")
    assert [line for line in out.splitlines() if line.startswith("unknown ")][1:] == []
    page = (tmp_path / "latest" / "index.html").read_text(encoding="utf-8")
    assert "prometheus is missing</span>: PATH is not searched for" in page
    assert page.count("questions could not be asked because of it") == 1
    assert "Needs attention" not in page


def test_query_ping_and_break_name_missing_prometheus(bare: dict[str, str]) -> None:
    code, out = run_command(bare, "query", "up")
    assert code == 3 and out.startswith(f"xai-runbook: prometheus is missing: {REASON}")
    code, out = run_command(bare, "ping")
    assert code == 3
    (line,) = [line for line in out.splitlines() if " prometheus " in line.partition("missing")[0]]
    assert "unknown" in line and "prometheus is missing" in line
    code, out = run_command(bare, "sandbox", "break", "dashboard-missing")
    assert code != 0 and "grafana is not part of this sandbox (it needs prometheus, which is missing)" in out


def test_prometheus_that_fails_to_start_is_missing(tmp_path: Path) -> None:
    bin_folder = tmp_path / "cache" / "xai-runbook" / "programs" / programs.folder().name / "prometheus" / "usr" / "bin"
    bin_folder.mkdir(parents=True)
    for name, script in (("prometheus", "echo 'bad flag' >&2; exit 1"), ("promtool", "exit 0")):
        (bin_folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (bin_folder / name).chmod(0o755)
    for variables in running_sandbox(tmp_path):
        code, out = run_command(variables, "check")
        assert code == 3, out
        first = " ".join(line.strip() for line in out.splitlines()[1:4])
        assert first.startswith("missing   prometheus is missing: prometheus exited with 1 before it was ready")
        assert "bad flag" in first
        assert "missing   grafana is missing: it needs prometheus" in out


def test_an_exporter_that_does_not_start_is_not_scraped(tmp_path: Path) -> None:
    if missing := programs.fetch(["prometheus", "promtool"]):
        pytest.skip("; ".join(missing.values()))
    cache = tmp_path / "cache" / "xai-runbook" / "programs" / programs.folder().name
    for package, name in (("prometheus", "prometheus"), ("prometheus", "promtool")):
        bin_folder = cache / package / "usr" / "bin"
        bin_folder.mkdir(parents=True, exist_ok=True)
        path = programs.find(name)
        assert path is not None
        (bin_folder / name).symlink_to(path)
    broken = cache / "prometheus-node-exporter" / "usr" / "bin" / "prometheus-node-exporter"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho 'bad collector' >&2; exit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    began = time.monotonic()
    for variables in running_sandbox(tmp_path):
        assert time.monotonic() - began < readiness.WAIT_SECONDS, "its scrapes are not awaited"
        _, out = run_command(variables, "check", "--json")
        report = json.loads(out)
        assert "bad collector" in report["missing"]["node-exporter"]
        _, status = run_command(variables, "sandbox", "status")
        lines = [line for line in status.splitlines() if "node-exporter" in line]
        assert len(lines) == 1 and lines[0].startswith("  node-exporter is missing: ")
        statuses = {finding["name"]: finding["status"] for finding in report["findings"]}
        assert statuses["targets_up"] != "alert", out  # unknown while the judged window still contains its history
        state = sandbox.status(Path(variables["XAI_RUNBOOK_SANDBOX"]))
        assert state is not None
        url = f"http://127.0.0.1:{state['parts']['prometheus']['port']}"
        with loopback.urlopen(f"{url}/api/v1/query?query=up%7Bjob%3D%22node%22%7D+%3D%3D+0", timeout=10) as answer:
            assert json.load(answer)["data"]["result"] == [], "it was never scraped: `up` would stay 0 for minutes"
        code, out = run_command(variables, "sandbox", "heal")
        assert code == 0, out


def test_missing_exporters_cause_no_alert(without_exporters: dict[str, str]) -> None:
    code, out = run_command(without_exporters, "check", "--json")
    report = json.loads(out)
    assert set(report["missing"]) == OPTIONAL
    statuses = {finding["name"]: finding["status"] for finding in report["findings"]}
    assert "alert" not in statuses.values(), out
    assert "database_connections" not in statuses
    for name in ("targets_up", "targets_present", "dashboard_panels", "clock_skew", "database_reachable"):
        assert statuses[name] == "ok", name
    assert {"postgres-exporter", "pooler", "alertmanager"} <= set(report["not_configured"])
    assert code == 0 and report["verdict"] == "ok"


def test_report_is_complete_without_exporters(without_exporters: dict[str, str], tmp_path: Path) -> None:
    code, out = run_command(without_exporters, "report", "--out", str(tmp_path), "--json")
    report = json.loads(out)
    wrong = [finding["name"] for finding in report["findings"] if finding["status"] != "ok"]
    assert report["complete"] and wrong == [] and code == 0
    assert {"postgres-exporter", "pooler", "alertmanager"} <= set(report["not_configured"])


def test_handle_of_a_missing_part_raises_part_missing(bare: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bare.items():
        monkeypatch.setenv(name, value)
    env = connect("sandbox")
    assert isinstance(env.prometheus, NotConfiguredHandle)
    with pytest.raises(PartMissing, match=r"prometheus is missing: .* apt-get install prometheus"):
        env.prometheus.instant("up")
    assert not hasattr(env.prometheus, "_repr_html_")


def test_a_narrow_screen_keeps_the_reason(bare: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    from xai_runbook.reports.check import run_questions
    from xai_runbook.settings.loading import load

    for name, value in bare.items():
        monkeypatch.setenv(name, value)
    settings = load("sandbox", running=True)
    result = run_questions("sandbox", ["sync_lag", "peer_count", "cache_reachable"])
    answers: Any = [answer.name for answer in result.answers]
    made = record(
        settings, [result], id_="x", started_at=datetime.now(UTC), declared={result.name: answers}
    )  # fmt: skip
    assert made.blocked_by_part["prometheus"] == ["sync_lag", "peer_count"]
    lines = render(made, width=60, height=20).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[1].startswith("missing   prometheus is missing:")
