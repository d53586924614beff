"""End the processes that a sandbox left and empty its run folder: when it stops, and at the next start after a crash.

A process belongs to a sandbox if the state file names it (same pid and creation time), if its environment has the run
folder's mark, or if it is a PostgreSQL process that works in the run folder's cluster. Backends overwrite their
environment, so they are found by their working folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.supervisor.component import MARK
from xai_runbook.system import processes, sandbox_state
from xai_runbook.system.locks import take_lock

STOP_SECONDS = 5.0
MARKER_FILE = ".xai-runbook-sandbox"
"""A file in every run folder; without it, nothing in a folder is ever removed."""


def lock_folder(folder: Path, wait_seconds: float = 0.0) -> int | None:
    """Create and lock the run folder; return the open descriptor, or None if another process holds the lock.

    The lock is released when the process ends, for any reason. Raises SandboxError if the folder contains other files.
    """
    end = time.monotonic() + wait_seconds
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise SandboxError(
                f"cannot create the sandbox's run folder: {error.strerror}", on=str(folder),
                hint="set XAI_RUNBOOK_SANDBOX to a writable folder",
            ) from None  # fmt: skip
        try:
            if not take_lock(descriptor, wait_seconds=max(0.0, end - time.monotonic())):
                os.close(descriptor)
                return None
            if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):  # not removed meanwhile
                _mark_folder(folder)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _mark_folder(folder: Path) -> None:
    marker = folder / MARKER_FILE
    if marker.exists():
        return
    if any(folder.iterdir()):
        raise SandboxError(
            "the run folder contains files that do not belong to a sandbox", on=str(folder),
            hint="set XAI_RUNBOOK_SANDBOX to an empty folder",
        )  # fmt: skip
    marker.write_text(
        "The run folder of an xai-runbook sandbox; `xai-runbook sandbox down` empties it.\n", encoding="ascii"
    )
    folder.chmod(0o700)


def leftovers(folder: Path) -> dict[int, signal.Signals]:
    """Return the processes that belong to the folder's sandbox, each with the signal that stops it cleanly."""
    signals: dict[int, signal.Signals] = {}
    for pid in sandbox_pids(folder):
        signals[pid] = signal.SIGTERM
    recorded = sandbox_state.read_any(folder) or {}
    for part in recorded.get("parts", {}).values():
        if processes.is_alive(int(part["pid"]), float(part["create_time"])):
            signals[int(part["pid"])] = signal.Signals(int(part["death_signal"]))
    signals.pop(os.getpid(), None)
    return signals


def sandbox_pids(folder: Path) -> list[int]:
    """Return the pids of this user's processes that have the folder's mark or are PostgreSQL in its cluster."""
    in_cluster = processes.pids_working_in(folder / "postgres" / "data")
    return sorted({*processes.pids_with_variable(MARK, str(folder)), *in_cluster})


def clean(folder: Path, keep: tuple[str, ...] = ()) -> int:
    """End every leftover process and empty the folder except `keep`; return how many processes there were.

    Only for the process that holds the folder's lock.
    """
    ended = 0
    for _ in range(3):  # a process may start another meanwhile
        signals = leftovers(folder)
        if not signals:
            break
        ended += len(signals)
        processes.end_pids(signals, grace_seconds=STOP_SECONDS)
    if (folder / MARKER_FILE).exists():
        for path in folder.iterdir():
            if path.name == MARKER_FILE or path.name in keep:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return ended


def remove(folder: Path) -> None:
    """Remove the emptied run folder itself. Only for the process that holds its lock."""
    if (folder / MARKER_FILE).exists() and not [path for path in folder.iterdir() if path.name != MARKER_FILE]:
        (folder / MARKER_FILE).unlink()
        folder.rmdir()
