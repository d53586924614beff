"""Ends what a sandbox left running and empties its run folder: at its teardown, and at the next start after a crash.

A process belongs to a sandbox if the state file names it (pid and creation time both), if its environment carries the
run folder's mark, or if it is PostgreSQL working in the run folder's cluster (a backend's environment cannot be read:
it shows its title there).
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
"""A file in each run folder: without it, nothing in a folder is ever removed."""


def lock_folder(folder: Path, wait_seconds: float = 0.0) -> int | None:
    """An open descriptor that holds the run folder (made where it is not there), or None if another process holds it.

    The lock goes with the process, however that ends. Raises SandboxError where the folder holds other things.
    """
    end = time.monotonic() + wait_seconds
    while True:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise SandboxError(
                f"cannot create the sandbox's run folder: {error.strerror}", on=str(folder),
                hint="set XAI_RUNBOOK_SANDBOX to a writable folder",
            ) from None  # fmt: skip
        try:
            if not take_lock(held, wait_seconds=max(0.0, end - time.monotonic())):
                os.close(held)
                return None
            if folder.exists() and os.path.samestat(os.fstat(held), folder.stat()):  # not removed while we waited
                _mark_folder(folder)
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)


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
    """The processes that belong to the sandbox of this folder, with the signal that ends each cleanly."""
    signals: dict[int, signal.Signals] = {}
    for pid in sandbox_pids(folder):
        signals[pid] = signal.SIGTERM
    recorded = sandbox_state.read_any(folder) or {}
    for part in recorded.get("parts", {}).values():
        if processes.alive(int(part["pid"]), float(part["create_time"])):
            signals[int(part["pid"])] = signal.Signals(int(part["death_signal"]))
    signals.pop(os.getpid(), None)
    return signals


def sandbox_pids(folder: Path) -> list[int]:
    """The pids of this user's processes that carry the folder's mark, or are PostgreSQL in its cluster."""
    in_cluster = processes.working_in(folder / "postgres" / "data")
    return sorted({*processes.with_variable(MARK, str(folder)), *in_cluster})


def clean(folder: Path, keep: tuple[str, ...] = ()) -> int:
    """Ends every leftover of the folder, empties it but for `keep`; how many processes there were to end.

    Only for the holder of the folder's lock.
    """
    ended = 0
    for _ in range(3):  # a process may start another while we look
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
    """Removes the emptied run folder itself. Only for the holder of its lock."""
    if (folder / MARKER_FILE).exists() and not [path for path in folder.iterdir() if path.name != MARKER_FILE]:
        (folder / MARKER_FILE).unlink()
        folder.rmdir()
