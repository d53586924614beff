"""The sandbox's backups: the first one, made with the database template, and the WAL archive."""

from __future__ import annotations

import os
import signal
from importlib.resources import files
from pathlib import Path
from typing import Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor.component import Layout, environment
from xai_runbook.system import child, processes

ARCHIVE_COMMAND = "test ! -f ../archive/%f && cp %p ../archive/%f.part && mv ../archive/%f.part ../archive/%f"
"""Relative to the data folder, so that a copied cluster archives into its own sandbox."""
FIRST = "xai_blockchain-000001"
"""Name of the backup that every sandbox starts with."""
BACKUP_SECONDS = 120.0


def folder(layout: Layout) -> Path:
    """Return the folder of this sandbox's backups."""
    return layout.folder / "postgres" / "backups"


def archive(layout: Layout) -> Path:
    """Return the folder of this sandbox's WAL archive."""
    return layout.folder / "postgres" / "archive"


def overlay(layout: Layout) -> dict[str, Any]:
    """Return the settings of the `backups` table."""
    settings: dict[str, Any] = {"folder": str(folder(layout)), "archive": str(archive(layout))}
    server = programs.find("postgres")
    if server is not None:
        settings["programs"] = str(server.parent)
    return settings


def recipe() -> bytes:
    """Return the source that determines a template's backup; templates made by other code are made again."""
    return files("xai_runbook.pgbackup").joinpath("dump.py").read_bytes()


def create_first(tools: Path, data: Path, user: str, folder: Path) -> None:
    """Dump a template cluster and verify the dump. Raises SandboxError if that fails."""
    folder.mkdir(mode=0o700)
    if not (tools / "pg_dump").exists():
        return
    descriptor = os.open(data, os.O_PATH)  # makes a path that is short enough for a socket
    argv = child.module_argv("xai_runbook.pgbackup", "dump", "--folder", str(folder), "--name", FIRST)
    variables = {
        "PGHOST": f"/proc/{os.getpid()}/fd/{descriptor}", "PGPORT": "5432", "PGUSER": user,
        "PGDATABASE": "xai_blockchain",
    }  # fmt: skip
    try:
        completed = processes.run(
            [*argv, "--programs", str(tools)],
            env=environment(data.parent) | variables | {"TMPDIR": str(data.parent)},
            cwd=data.parent,
            deadline_seconds=BACKUP_SECONDS,
            death_signal=signal.SIGTERM,
        )
    except OSError as error:
        raise SandboxError(f"the sandbox's first backup failed: {type(error).__name__}") from None
    finally:
        os.close(descriptor)
    if completed.returncode:
        raise SandboxError("the sandbox's first backup failed", on=(completed.stdout + completed.stderr).strip()[-600:])
