"""Where a sandbox lives and what it wrote down about itself: the run folder and its state file.

Cheap to import: whoever loads the settings of ``--env sandbox`` pays for this module each time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xai_runbook.system import processes
from xai_runbook.system.files import write_whole

SCHEMA = 1
STATE_FILE = "state.json"
SOCKET_FILE = "control.sock"


def run_folder() -> Path:
    """The folder of this user's sandbox: ``$XAI_RUNBOOK_SANDBOX``, else in the XDG state folder."""
    told = os.environ.get("XAI_RUNBOOK_SANDBOX")
    if told:
        return Path(told).expanduser().resolve()
    return (_xdg("XDG_STATE_HOME", ".local/state") / "xai-runbook" / "sandbox").resolve()


def cache_folder() -> Path:
    """The folder of what is worth keeping between two sandboxes: the template cluster, unpacked programs."""
    return (_xdg("XDG_CACHE_HOME", ".cache") / "xai-runbook").resolve()


def read(folder: Path | None = None) -> dict[str, Any] | None:
    """The state of the sandbox that runs in the folder, or None where none does (its supervisor is gone or starting).

    Keys: schema, pid, create_time, started_at, ready_at (ISO, UTC; None while starting), parts {name: {pid,
    create_time, port, argv}}, missing {part: why, and how to get it}, faults [name], overlay (what settings.load lays
    over environments/sandbox.toml).
    """
    state = read_any(folder)
    if state is None or state.get("ready_at") is None:
        return None
    return state if processes.alive(int(state["pid"]), float(state["create_time"])) else None


def read_any(folder: Path | None = None) -> dict[str, Any] | None:
    """What the state file says, whether its supervisor lives or not; None where there is none or it is not ours."""
    path = (folder or run_folder()) / STATE_FILE
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) and state.get("schema") == SCHEMA else None


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Replaces the state file as a whole, readable by this user only."""
    write_whole(folder / STATE_FILE, json.dumps(state, indent=1).encode() + b"\n")


def _xdg(variable: str, otherwise: str) -> Path:
    told = os.environ.get(variable, "")
    return Path(told) if told.startswith("/") else Path.home() / otherwise  # the XDG rule: relative paths are ignored
