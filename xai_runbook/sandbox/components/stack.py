"""All parts of a sandbox, and the settings that say where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import (
    alertmanager,
    backups,
    cache,
    grafana,
    pgbouncer,
    postgres,
    programs,
    prometheus,
    standby,
    workload,
)
from xai_runbook.sandbox.node import node
from xai_runbook.sandbox.supervisor.component import MARK, NODES, REFERENCE, Layout, Part

PROGRAMS_OF_PART = {
    "postgres": ("postgres",),
    "standby": ("postgres",),
    "pooler": ("pgbouncer",),
    "cache": ("valkey-server",),
    "prometheus": ("prometheus", "promtool"),
    "alertmanager": ("alertmanager",),
    "node-exporter": ("prometheus-node-exporter",),
    "postgres-exporter": ("prometheus-postgres-exporter",),
}
"""Programs that a part needs and that may be missing; other parts run on this Python."""
DEPENDS_ON = {"standby": "postgres", "pooler": "postgres", "postgres-exporter": "postgres", "grafana": "prometheus"}
"""Parts that are useless without another part."""


def parts(layout: Layout, progress: Callable[[str], None]) -> list[Part]:
    """Return every part that can run here. Downloads missing programs; records the other parts in layout.missing."""
    absent = programs.fetch([program for names in PROGRAMS_OF_PART.values() for program in names], progress)
    for part, names in PROGRAMS_OF_PART.items():
        reasons = [absent[program] for program in names if program in absent]
        if reasons and part not in layout.missing:
            record_missing(layout, part, reasons[0])
    startable: list[Part] = []
    for name, module in (("postgres", postgres), ("alertmanager", alertmanager)):
        try:
            startable += module.parts(layout)
        except SandboxError as error:  # its program is found but cannot run here; the other parts can
            record_missing(layout, name, str(error))
    for module in (standby, pgbouncer, cache, node, prometheus, grafana, workload):
        if module is not standby or "standby" not in layout.missing:
            startable += [part for part in module.parts(layout) if part.name not in layout.missing]
    return [_with_libraries(part) for part in startable]


def record_missing(layout: Layout, part: str, reason: str) -> None:
    """Record why a part, and what depends on it, cannot run here."""
    layout.missing[part] = reason
    for dependent, needed in DEPENDS_ON.items():
        if needed == part:
            layout.missing[dependent] = f"it needs {part}, which is missing"


def _with_libraries(part: Part) -> Part:
    """Return the part with the environment variables that its unpacked program needs."""
    libraries = programs.library_path(PROGRAMS_OF_PART[part.name][0]) if part.name in PROGRAMS_OF_PART else {}
    return replace(part, env={**libraries, **part.env})


def overlay(layout: Layout) -> dict[str, Any]:
    """Return where this sandbox's parts are, as settings that are merged over environments/sandbox.toml."""
    return (
        pgbouncer.overlay(layout)
        | alertmanager.overlay(layout)
        | {
            "prometheus": {"url": layout.url("prometheus")},
            **({} if "grafana" in layout.missing else {"grafana": grafana.overlay(layout)}),
            "nodes": {
                "node": [{"name": name, "url": layout.url(name), "timeout": "2s"} for name in NODES],
                "reference": [{"name": REFERENCE, "url": layout.url(REFERENCE), "timeout": "2s"}],
            },
            "database": postgres.overlay(layout) | pgbouncer.proxy(layout) | workload.overlay(layout),
            "backups": backups.overlay(layout),
            "cache": {"host": layout.host, "port": layout.ports["cache"]},
            "sandbox": {
                "folder": str(layout.folder),
                "quota_url": layout.url("quota"),
                "mark": {MARK: str(layout.folder)},
                "missing": dict(layout.missing),
            },
        }
    )
