"""A private PostgreSQL for a benchmark, with a copy of the sandbox's cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from xai_runbook.environment import Environment
from xai_runbook.sandbox.components import backups, postgres, postgres_template
from xai_runbook.sandbox.supervisor.component import Layout, environment, free_ports
from xai_runbook.settings.loading import load
from xai_runbook.settings.models import Settings
from xai_runbook.system import processes, sandbox_state


@contextmanager
def running(folder: Path) -> Iterator[Layout]:
    """Run a server in that folder during a with block."""
    layout = Layout(folder, sandbox_state.cache_folder(), free_ports(["postgres"]))
    (part,) = postgres.parts(layout)
    assert part.prepare is not None
    assert part.finish is not None
    part.prepare()
    layout.part_folder("tmp")
    with open(layout.log_file("postgres"), "ab") as log:
        process = processes.start(
            part.argv, env=environment(folder), cwd=folder, stdout=log, stderr=log, own_group=True,
            death_signal=part.death_signal,
        )  # fmt: skip
    try:
        while not _is_ready(part.ready):
            if not processes.is_running(process):
                raise RuntimeError(layout.log_file("postgres").read_text()[-600:])
            time.sleep(0.05)
        part.finish()
        yield layout
    finally:
        processes.end(process, part.death_signal, grace_seconds=60)


@contextmanager
def superuser(layout: Layout) -> Iterator[psycopg.Connection[Any]]:
    """Open a superuser's session through the socket."""
    data = layout.folder / "postgres" / "data"
    with postgres_template.connect(data, layout.ports["postgres"], layout.database) as connection:
        yield connection


def backed_up(layout: Layout, folder: Path) -> Environment:
    """Return an environment with that server, and with backups and a journal in `folder`."""
    tables = load("sandbox").model_dump()
    tables["database"] |= postgres.overlay(layout) | {"timeout": "20s"}
    tables["backups"] = backups.overlay(layout) | {"folder": str(folder / "backups")}
    tables["changes"] = {"headless": ["backups.dump"]}
    tables["outputs"] |= {"journal": str(folder / "journal")}
    return Environment(Settings.model_validate(tables))


def _is_ready(ready: Any) -> bool:
    try:
        return bool(ready())
    except OSError:
        return False
