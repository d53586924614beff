"""Start, stop, break and heal the sandbox: a small production of real servers on this machine.

Plain functions that return data. Each takes the run folder, by default this user's (``sandbox_state.run_folder``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 300.0
"""Longest time a start may take: the first one downloads programs and seeds the database."""
COMMAND_SECONDS = 90.0
"""Longest time a break or heal command may take."""


def up(
    folder: Path | None = None,
    *,
    bound: bool = False,
    progress: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Start the sandbox unless one already runs in the folder; return its state (see ``sandbox_state.read``).

    The state has the key `started` (True) if this call started it. `progress` receives events: {event: note, text},
    {event: ready, part, seconds}, {event: up, seconds}. A bound sandbox stops when the calling process ends.

    Raises SandboxError if a part did not become ready; no process is left running then.
    """
    from xai_runbook.sandbox.supervisor import launcher
    from xai_runbook.system import sandbox_state

    path = (folder or sandbox_state.run_folder()).resolve()
    return launcher.up(path, bound=bound, progress=progress, seconds=START_SECONDS)


def status(folder: Path | None = None) -> dict[str, Any] | None:
    """Return the state of the running sandbox, or None. Each part has a `condition`: running, frozen or ended."""
    from xai_runbook.system import processes, sandbox_state

    state = sandbox_state.read(folder)
    if state is None:
        return None
    for part in state["parts"].values():
        part["condition"] = processes.condition(int(part["pid"]), float(part["create_time"]))
    return state


def down(folder: Path | None = None) -> bool:
    """Stop the sandbox, or remove what a crashed one left; return False if there was neither.

    Raises SandboxError if another process holds the lock on the run folder.
    """
    from xai_runbook.sandbox.supervisor import launcher
    from xai_runbook.system import sandbox_state

    return launcher.down((folder or sandbox_state.run_folder()).resolve())


@contextmanager
def running(
    folder: Path | None = None, *, progress: Callable[[dict[str, Any]], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Yield the state of a sandbox for a with block, and stop it afterwards if this call started it.

    A sandbox that already runs is used and left running. One that was started here also stops if this process is
    killed; it keeps running until other with blocks that use it have ended.
    """
    from xai_runbook.sandbox.supervisor import users
    from xai_runbook.system import sandbox_state

    with users.using((folder or sandbox_state.run_folder()).resolve()) as use:
        state = up(folder, bound=True, progress=progress)
        try:
            yield state
            if state.get("started"):
                text = "waiting for another command that uses this sandbox"
                use.wait_until_alone(lambda: progress({"event": "note", "text": text}))
        finally:
            if state.get("started"):
                down(folder)


def known_faults(folder: Path | None = None) -> list[dict[str, Any]]:
    """Return every fault as a dict: name, part, does (description), finding (the check that reports it), broken."""
    from xai_runbook.sandbox.faults.table import FAULTS
    from xai_runbook.system import sandbox_state

    active = (sandbox_state.read(folder) or {}).get("faults", [])
    return [
        {
            "name": fault.name,
            "part": fault.part,
            "does": fault.does,
            "finding": fault.finding,
            "broken": fault.name in active,
        }
        for fault in FAULTS.values()
    ]


def break_(fault: str, folder: Path | None = None) -> list[str]:
    """Break a fault in the running sandbox; return the names of the faults that changed.

    Raises SandboxError if no sandbox runs, the fault is unknown, or the fault or its part is already broken.
    """
    return _command(folder, "break", fault)


def heal(fault: str | None = None, folder: Path | None = None) -> list[str]:
    """Heal one fault, or all of them; return the names of what changed once the parts are ready again.

    Without a name, parts that ended by themselves are started again too.

    Raises SandboxError if no sandbox runs, the fault is unknown, or a part does not become ready.
    """
    return _command(folder, "heal", fault)


def _command(folder: Path | None, verb: str, fault: str | None) -> list[str]:
    from xai_runbook.sandbox.supervisor import launcher
    from xai_runbook.system import sandbox_state

    path = (folder or sandbox_state.run_folder()).resolve()
    return launcher.command(path, {"do": verb, "fault": fault}, COMMAND_SECONDS)
