"""The supervisor as a process: it locks the run folder for as long as it lives and stops the sandbox at a signal."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import stack
from xai_runbook.sandbox.faults import commands
from xai_runbook.sandbox.supervisor import reaper
from xai_runbook.sandbox.supervisor.component import PortTaken
from xai_runbook.sandbox.supervisor.supervisor import Event, Supervisor


def supervise(
    folder: Path,
    emit: Callable[[Event], None],
    started: Callable[[Supervisor], None] = lambda _: None,
    ports: Mapping[str, int] | None = None,
) -> bool:
    """Run a sandbox in the folder until a signal stops it; return False if another process has locked the folder.

    Raises SandboxError if the sandbox could not be started.
    """
    os.umask(0o077)
    lock = reaper.lock_folder(folder)
    if lock is None:
        return False
    try:
        if ended := reaper.clean(folder):
            emit({"event": "note", "text": f"ended {ended} processes left by a crashed sandbox"})
        (folder / "tmp").mkdir(mode=0o700)
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
        supervisor = Supervisor(folder, stack, commands.command, emit, ports)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: supervisor.stop())
        started(supervisor)
        supervisor.run()
        reaper.remove(folder)
    finally:
        os.close(lock)
    return True


def main(folder: str, is_bound: bool) -> None:
    """Run as the supervisor's process. Until the sandbox is up, events go to stdout, one JSON object per line.

    If bound, the supervisor stops when its stdin is closed, that is, when the process that started it ends.
    """
    running: list[Supervisor] = []

    def emit(event: Event) -> None:
        try:
            os.write(1, json.dumps(event).encode() + b"\n")
        except OSError:  # the process that started this one is gone
            for supervisor in running:
                supervisor.stop()
        if event["event"] == "up":
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)

    def started(supervisor: Supervisor) -> None:
        running.append(supervisor)
        log = os.open(supervisor.layout.log_file("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 2)
        if is_bound:
            threading.Thread(target=_stop_with_stdin, args=(supervisor,), daemon=True).start()

    code = 0
    try:
        if not supervise(Path(folder), emit, started):
            emit({"event": "busy"})
    except SandboxError as error:
        emit(
            {"event": "failed", "what": error.what, "on": error.on, "hint": error.hint}
            | {"port_taken": isinstance(error, PortTaken)}
        )
        code = 1
    except BaseException as error:  # reported to the process that started this one, which raises it
        emit(
            {"event": "failed", "what": f"{type(error).__name__}: {error}", "on": folder, "hint": ""}
            | {"port_taken": False}
        )
        code = 1
    os._exit(code)  # does not wait for threads that still start parts


def _stop_with_stdin(supervisor: Supervisor) -> None:
    os.read(0, 1)
    supervisor.stop()


if __name__ == "__main__":
    main(sys.argv[1], "--bound" in sys.argv[2:])
