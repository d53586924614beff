"""Prometheus and its exporters as parts of the sandbox: configuration, rules and command lines."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xai_runbook.sandbox import loopback
from xai_runbook.sandbox.components import alertmanager, backfill, programs
from xai_runbook.sandbox.supervisor.component import NODES, Layout, Part
from xai_runbook.system.files import write_atomically

RETENTION_TIME, RETENTION_SIZE = "3d", "400MB"
NODE_COLLECTORS = ("cpu", "meminfo", "filesystem", "loadavg", "diskstats", "netdev", "time", "uname")


def parts(layout: Layout) -> list[Part]:
    """Return Prometheus with its rules and history, and the exporters, if their programs are found."""
    exporters = [
        _prometheus(layout),
        _node_exporter(layout),
        _postgres_exporter(layout),
    ]
    return [part for part in exporters if part is not None]


def configuration(layout: Layout, rules: Path) -> dict[str, Any]:
    """Return prometheus.yml as data. Every target is scraped each second and labelled by its part's name."""

    def job(name: str, targets: dict[str, str], **more: Any) -> dict[str, Any]:
        static = [
            {"targets": [f"{layout.host}:{layout.ports[port]}"], "labels": {"instance": instance}}
            for instance, port in targets.items()
            if port not in layout.missing
        ]
        return {"job_name": name, "static_configs": static, **more}

    # which metrics have this label depends on the exporter's version, and there is only one server
    one_server = [{"action": "labeldrop", "regex": "server"}]
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "alerting": {
            "alertmanagers": [
                {"static_configs": [{"targets": [part["url"].removeprefix("http://")]}]}
                for part in alertmanager.overlay(layout).values()
            ]
        },
        "scrape_configs": [
            job("xai-node", {name: name for name in NODES}),
            job("sandbox", {"sandbox": "quota"}),
            job("node", {"host": "node-exporter"}),
            job("postgres", {"postgres": "postgres-exporter"}, metric_relabel_configs=one_server),
            job("prometheus", {"prometheus": "prometheus"}),
        ],
    }


def rules(lag_blocks: float | None = None) -> str:
    """Return the rule file of the sandbox's settings, or one with another sync lag limit."""
    from xai_runbook.operations.monitoring.alert_rules import alert_rules
    from xai_runbook.settings.loading import load

    settings = load("sandbox")
    limits = settings.limits
    if lag_blocks is not None:
        limit = replace(limits.monitoring.sync_lag, threshold=lag_blocks)
        section = limits.monitoring.model_copy(update={"sync_lag": limit})
        limits = limits.model_copy(update={"monitoring": section})
    return alert_rules(settings, limits, name=settings.name, step=settings.rule_step)


def rule_file(layout: Layout) -> Path:
    """Return the path of the rule file, which Prometheus reads at its start and at SIGHUP."""
    return layout.part_folder("prometheus") / "rules.yml"


def configuration_file(layout: Layout) -> Path:
    """Return the path of the configuration, which Prometheus reads at its start and at SIGHUP."""
    return layout.part_folder("prometheus") / "prometheus.yml"


def write_configuration(layout: Layout) -> None:
    """Write the configuration for the parts that can run here."""
    text = json.dumps(configuration(layout, rule_file(layout)), indent=1)
    write_atomically(configuration_file(layout), text.encode())


def _prometheus(layout: Layout) -> Part | None:
    program, promtool = programs.find("prometheus"), programs.find("promtool")
    if program is None:
        return None
    folder = layout.part_folder("prometheus")
    data, config, rules_path = folder / "data", configuration_file(layout), rule_file(layout)

    def prepare() -> None:
        backfilling = None
        if promtool is not None and not data.exists():  # a restart keeps the existing data
            backfilling = backfill.start(layout, promtool, data, time.time())
        rules_path.write_text(rules(), encoding="utf-8")
        if backfilling is not None:
            backfill.finish(backfilling, data)
        write_configuration(layout)  # written late, so that exporters that failed to start are left out
        data.mkdir(mode=0o700, exist_ok=True)

    port = layout.ports["prometheus"]
    argv = [
        str(program),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--storage.tsdb.retention.time={RETENTION_TIME}",
        f"--storage.tsdb.retention.size={RETENTION_SIZE}",
        f"--web.listen-address={layout.host}:{port}",
        "--rules.alert.resend-delay=5s",
        "--log.level=warn",
    ]
    ready = _answers_ok(f"{layout.url('prometheus')}/-/ready")
    return Part("prometheus", argv, ready, signal.SIGTERM, prepare=prepare, optional=True)


def _node_exporter(layout: Layout) -> Part | None:
    program = programs.find("prometheus-node-exporter")
    if program is None:
        return None
    argv = [str(program), "--collector.disable-defaults", *(f"--collector.{name}" for name in NODE_COLLECTORS)]
    argv += [f"--web.listen-address={layout.host}:{layout.ports['node-exporter']}", "--log.level=error"]
    ready = _answers_ok(f"{layout.url('node-exporter')}/")
    return Part("node-exporter", argv, ready, signal.SIGTERM, optional=True)


def _postgres_exporter(layout: Layout) -> Part | None:
    program = programs.find("prometheus-postgres-exporter")
    if program is None:
        return None
    monitor = layout.role("monitor")
    argv = [
        str(program),
        f"--web.listen-address={layout.host}:{layout.ports['postgres-exporter']}",
        "--log.level=error",
    ]
    env = {
        "DATA_SOURCE_URI": f"{layout.host}:{layout.ports['postgres']}/{layout.database}?sslmode=disable",
        "DATA_SOURCE_USER": monitor.name,
        "DATA_SOURCE_PASS_FILE": str(monitor.password_file),
    }
    ready = _answers_ok(f"{layout.url('postgres-exporter')}/")
    return Part("postgres-exporter", argv, ready, signal.SIGTERM, env, after=("postgres",), optional=True)


def _answers_ok(url: str) -> Callable[[], bool]:
    return partial(loopback.answers_ok, url)
