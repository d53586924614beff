"""Start and stop a sandbox's supervisor from another process, and send it commands."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.supervisor import reaper
from xai_runbook.sandbox.supervisor.component import PortTaken
from xai_runbook.system import child, processes, sandbox_state

if TYPE_CHECKING:
    from subprocess import Popen

STOP_SECONDS = 20.0


def up(folder: Path, *, bound: bool, progress: Callable[[dict[str, Any]], None], seconds: float) -> dict[str, Any]:
    """Start the sandbox; see ``xai_runbook.sandbox.up``. If a port was taken, try once more with other ports."""
    for is_last_attempt in (False, True):
        try:
            return _up_once(folder, bound=bound, progress=progress, seconds=seconds)
        except PortTaken as error:
            if is_last_attempt:
                raise
            progress({"event": "note", "text": f"starting again with other ports: {error.what}"})
    raise AssertionError


def _up_once(
    folder: Path, *, bound: bool, progress: Callable[[dict[str, Any]], None], seconds: float
) -> dict[str, Any]:
    if state := sandbox_state.read(folder):
        return state
    deadline = time.monotonic() + seconds
    supervisor = processes.start(
        child.module_argv("xai_runbook.sandbox.supervisor.daemon", str(folder), *(["--bound"] if bound else [])),
        env=child.reading_environment(),
        cwd=child.NEUTRAL_FOLDER,  # not the run folder, which is created and removed while the supervisor runs
        stdin="pipe" if bound else "null",
        stdout="pipe",
        stderr="inherit",
        own_group=True,
    )
    assert supervisor.stdout is not None
    try:
        for event in _events(supervisor.stdout, deadline):
            match event["event"]:
                case "up":
                    progress(event)
                    state = sandbox_state.read(folder)
                    if state is None:
                        break
                    _keep_reference(supervisor)
                    return state | {"started": True}
                case "busy":
                    supervisor.wait()
                    return _await_other_start(folder, deadline)
                case "failed":
                    processes.ended_within(supervisor, STOP_SECONDS)
                    kind = PortTaken if event["port_taken"] else SandboxError
                    raise kind(event["what"], on=event["on"], hint=event["hint"] or f"see {folder}/logs")
                case _:
                    progress(event)
        timed_out = time.monotonic() >= deadline
        raise SandboxError(
            f"the sandbox was not ready within {seconds:.0f} s"
            if timed_out
            else "the sandbox's supervisor ended before the sandbox was ready",
            on=str(folder),
            hint=f"see {folder}/logs",
        )
    except SandboxError:
        _stop(supervisor)
        raise
    except BaseException:  # on Ctrl-C too, nothing is left half started
        _stop(supervisor)
        lock = reaper.lock_folder(folder)
        if lock is not None:  # otherwise another command's sandbox uses the folder
            os.close(lock)
            down(folder)
        raise


_supervisors: list[Popen[bytes]] = []


def _keep_reference(supervisor: Popen[bytes]) -> None:
    """Keep a reference: a process that is collected loses its stdin, and a bound supervisor would stop."""
    assert supervisor.stdout is not None
    supervisor.stdout.close()
    _forget_ended()
    _supervisors.append(supervisor)


def _forget_ended() -> None:
    """Reap supervisors that another process has stopped; otherwise they would stay as zombies."""
    for process in [process for process in _supervisors if process.poll() is not None]:
        if process.stdin:
            process.stdin.close()
        _supervisors.remove(process)


def _events(stream: IO[bytes], deadline: float) -> Iterator[dict[str, Any]]:
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)


def _await_other_start(folder: Path, deadline: float) -> dict[str, Any]:
    """Return the state of the sandbox that another process is starting in the same folder."""
    while time.monotonic() < deadline:
        if state := sandbox_state.read(folder):
            return state
        lock = reaper.lock_folder(folder)
        if lock is not None:  # the other process gave up
            os.close(lock)
            break
        time.sleep(0.1)
    raise SandboxError(
        "another process locked the sandbox's folder but did not start the sandbox", on=str(folder),
        hint="xai-runbook sandbox down, then xai-runbook sandbox up",
    )  # fmt: skip


def _stop(supervisor: Popen[bytes]) -> None:
    processes.end(supervisor, grace_seconds=STOP_SECONDS)
    for stream in (supervisor.stdin, supervisor.stdout):
        if stream:
            stream.close()


def down(folder: Path) -> bool:
    """Stop the sandbox; see ``xai_runbook.sandbox.down``."""
    if not (folder / reaper.MARKER_FILE).exists():
        return False
    state = sandbox_state.read_any(folder)
    if state and processes.is_alive(state["pid"], state["create_time"]):
        processes.end_pids({state["pid"]: signal.SIGTERM}, grace_seconds=STOP_SECONDS)
    for process in [process for process in _supervisors if state and process.pid == state["pid"]]:
        _stop(process)
        _supervisors.remove(process)
    _forget_ended()
    lock = reaper.lock_folder(folder, wait_seconds=STOP_SECONDS)
    if lock is None:
        raise SandboxError("another process has locked the sandbox's folder", on=str(folder))
    try:
        reaper.clean(folder)
        reaper.remove(folder)
    finally:
        os.close(lock)
    return True


def command(folder: Path, request: dict[str, Any], seconds: float) -> list[str]:
    """Send a command to the folder's supervisor; return what it changed. Raises SandboxError if it fails."""
    if sandbox_state.read(folder) is None:
        raise SandboxError("no sandbox is running", on=str(folder), hint="xai-runbook sandbox up")
    deadline = time.monotonic() + seconds
    directory = os.open(folder, os.O_PATH)  # through a descriptor, because a socket path may have at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(f"/proc/self/fd/{directory}/{sandbox_state.SOCKET_FILE}")
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n"):
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                chunk = connection.recv(65536)
                if not chunk:
                    break
                line += chunk
        answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise SandboxError(
            f"the sandbox's supervisor did not answer: {type(error).__name__}", on=str(folder),
            hint="see xai-runbook sandbox status, or run sandbox down and sandbox up",
        ) from None  # fmt: skip
    finally:
        os.close(directory)
    if "done" not in answer:
        raise SandboxError(answer["what"], on=answer["on"], hint=answer["hint"])
    return list(answer["done"])
