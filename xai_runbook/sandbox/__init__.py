"""The sandbox: a small production of real servers on this machine, and its faults.

Plain functions that return data; each takes the run folder, by default this user's (``sandbox_state.run_folder``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

START_SECONDS = 300.0
"""The longest that a start may take: the first one downloads programs and seeds the database."""
COMMAND_SECONDS = 90.0


def up(
    folder: Path | None = None,
    *,
    bound: bool = False,
    progress: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """The state of the sandbox (see ``sandbox_state.read``), which is started where none runs in the folder.

    Where it is started, the state has the key `started` as True. Progress gets events: {event: note, text},
    {event: ready, part, seconds}, {event: up, seconds}. A bound sandbox goes down with the calling process.
    Raises SandboxError where a part did not become ready; nothing is left running then.
    """
    from xai_runbook.sandbox.supervisor import launcher
    from xai_runbook.system import sandbox_state

    path = (folder or sandbox_state.run_folder()).resolve()
    return launcher.up(path, bound=bound, progress=progress, seconds=START_SECONDS)


def status(folder: Path | None = None) -> dict[str, Any] | None:
    """The state of the running sandbox, its parts with `condition` (running, frozen, ended); None where none runs."""
    from xai_runbook.system import processes, sandbox_state

    state = sandbox_state.read(folder)
    if state is None:
        return None
    for part in state["parts"].values():
        part["condition"] = processes.condition(int(part["pid"]), float(part["create_time"]))
    return state


def down(folder: Path | None = None) -> bool:
    """Whether there was anything to take down: a sandbox, or what a crashed one left. All of it is gone on return.

    Raises SandboxError where another process holds the folder and does not let go.
    """
    from xai_runbook.sandbox.supervisor import launcher
    from xai_runbook.system import sandbox_state

    return launcher.down((folder or sandbox_state.run_folder()).resolve())


@contextmanager
def running(
    folder: Path | None = None, *, progress: Callable[[dict[str, Any]], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """The state of a sandbox for the time of a with block: one that runs is used and left, else one is started, and
    taken down afterwards, even if this process is killed. Before that, other with blocks that use it may end.
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
    """The faults there are: name, part, does, finding (that names it), broken (now)."""
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
    """Breaks a fault in the running sandbox; the names of the faults that changed.

    Raises SandboxError: no sandbox, no such fault, broken already.
    """
    return _command(folder, "break", fault)


def heal(fault: str | None = None, folder: Path | None = None) -> list[str]:
    """Heals one fault, or all, and then starts again what ended by itself; the names of what it changed.

    Returns when the parts are ready again.

    Raises SandboxError: no sandbox, no such fault, a part that does not come back.
    """
    return _command(folder, "heal", fault)


def _command(folder: Path | None, verb: str, fault: str | None) -> list[str]:
    from xai_runbook.sandbox.supervisor import launcher
    from xai_runbook.system import sandbox_state

    path = (folder or sandbox_state.run_folder()).resolve()
    return launcher.command(path, {"do": verb, "fault": fault}, COMMAND_SECONDS)
