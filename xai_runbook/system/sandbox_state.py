"""The sandbox's run folder and its state file.

Cheap to import, because loading the settings of `--env sandbox` imports this module each time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xai_runbook.system import processes
from xai_runbook.system.files import write_atomically

SCHEMA = 1
STATE_FILE = "state.json"
SOCKET_FILE = "control.sock"


def run_folder() -> Path:
    """Return the run folder of this user's sandbox: $XAI_RUNBOOK_SANDBOX, else a folder in the XDG state folder."""
    folder = os.environ.get("XAI_RUNBOOK_SANDBOX")
    if folder:
        return Path(folder).expanduser().resolve()
    return (_xdg("XDG_STATE_HOME", ".local/state") / "xai-runbook" / "sandbox").resolve()


def cache_folder() -> Path:
    """Return the cache folder, which outlives a sandbox: the template cluster, unpacked programs."""
    return (_xdg("XDG_CACHE_HOME", ".cache") / "xai-runbook").resolve()


def read(folder: Path | None = None) -> dict[str, Any] | None:
    """Return the state of the sandbox that runs in the folder; None if none is running or it is still starting.

    Keys: schema, pid, create_time, started_at, ready_at (ISO, UTC; None while starting), parts {name: {pid,
    create_time, port, argv}}, missing {part: reason, and how to get it}, faults [name], overlay (settings that replace
    those of environments/sandbox.toml).
    """
    state = read_any(folder)
    if state is None or state.get("ready_at") is None:
        return None
    return state if processes.is_alive(int(state["pid"]), float(state["create_time"])) else None


def read_any(folder: Path | None = None) -> dict[str, Any] | None:
    """Return the content of the state file, even if its supervisor has ended; None if it is missing or invalid."""
    path = (folder or run_folder()) / STATE_FILE
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("schema") == SCHEMA else None


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the state file atomically, readable by this user only."""
    write_atomically(folder / STATE_FILE, json.dumps(state, indent=1).encode() + b"\n")


def _xdg(variable: str, otherwise: str) -> Path:
    folder = os.environ.get(variable, "")
    return Path(folder) if folder.startswith("/") else Path.home() / otherwise  # XDG says: ignore relative paths
