"""What a sandbox consists of: the parts of all modules together, and what the settings then are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox import (
    alertmanager,
    backups,
    cache,
    grafana,
    node,
    pooler,
    postgres,
    programs,
    prometheus,
    quota,
    standby,
    workload,
)
from xai_runbook.sandbox.part import MARK, NODES, REFERENCE, Layout, Part

NEEDS = {
    "postgres": ("postgres",),
    "standby": ("postgres",),
    "pooler": ("pgbouncer",),
    "cache": ("valkey-server",),
    "prometheus": ("prometheus", "promtool"),
    "alertmanager": ("alertmanager",),
    "node-exporter": ("prometheus-node-exporter",),
    "postgres-exporter": ("prometheus-postgres-exporter",),
}
"""The programs that a part needs and that may not be there; the others run on this Python."""


def parts(layout: Layout, say: Callable[[str], None]) -> tuple[list[Part], dict[str, str]]:
    """Every part that can run here, and why each other one cannot, with how to get it. Fetches what can be fetched."""
    absent = programs.fetch([program for needed in NEEDS.values() for program in needed], say)
    missing = {
        part: absent[program] for part, needed in NEEDS.items() for program in reversed(needed) if program in absent
    }
    found: list[Part] = []
    try:
        found += [*postgres.parts(layout), *standby.parts(layout)]
    except SandboxError as error:  # it cannot run here, though the program is there: the rest can
        missing["postgres"] = str(error)
    try:
        found += alertmanager.parts(layout)
    except SandboxError as error:
        missing["alertmanager"] = str(error)
    for module in (pooler, cache, node, prometheus, grafana, workload):
        found += [part for part in module.parts(layout) if part.name not in missing]
    return found, missing


def overlay(layout: Layout) -> dict[str, Any]:
    """What settings.load lays over environments/sandbox.toml: where the parts of this sandbox are."""
    return (
        pooler.overlay(layout)
        | alertmanager.overlay(layout)
        | {
            "prometheus": {"url": layout.url("prometheus")},
            "grafana": grafana.overlay(layout),
            "nodes": {
                "node": [{"name": name, "url": layout.url(name), "timeout": "2s"} for name in NODES],
                "reference": [{"name": REFERENCE, "url": layout.url(REFERENCE), "timeout": "2s"}],
            },
            "database": postgres.overlay(layout) | pooler.proxy(layout) | workload.overlay(layout),
            "backups": backups.overlay(layout),
            "cache": {"host": layout.host, "port": layout.ports["cache"]},
            "sandbox": {
                "folder": str(layout.folder),
                "quota_url": layout.url("quota"),
                "mark": {MARK: str(layout.folder)},
            },
        }
    )


def measure(layout: Layout, pids: Callable[[], dict[str, int]]) -> None:
    """Serves the sandbox's own use against its quotas, for ever."""
    quota.serve(layout, pids)
