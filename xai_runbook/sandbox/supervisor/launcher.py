"""Starting, ending and commanding a sandbox's supervisor from another process."""

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
    """See ``xai_runbook.sandbox.up``. A start that lost a port to another program is tried once more with others."""
    for last in (False, True):
        try:
            return _up_once(folder, bound=bound, progress=progress, seconds=seconds)
        except PortTaken as error:
            if last:
                raise
            progress({"event": "note", "text": f"once more, with other ports: {error.what}"})
    raise AssertionError


def _up_once(
    folder: Path, *, bound: bool, progress: Callable[[dict[str, Any]], None], seconds: float
) -> dict[str, Any]:
    if found := sandbox_state.read(folder):
        return found
    deadline = time.monotonic() + seconds
    supervisor = processes.start(
        child.python("xai_runbook.sandbox.supervisor.daemon", str(folder), *(["--bound"] if bound else [])),
        env=child.reading_environment(),
        cwd=child.NEUTRAL_FOLDER,  # the run folder is made and removed while it runs
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
                    found = sandbox_state.read(folder)
                    if found is None:
                        break
                    _keep(supervisor)
                    return found | {"started": True}
                case "busy":
                    supervisor.wait()
                    return _others(folder, deadline)
                case "failed":
                    processes.ended_within(supervisor, STOP_SECONDS)
                    kind = PortTaken if event["port_taken"] else SandboxError
                    raise kind(event["what"], on=event["on"], hint=event["hint"] or f"look at {folder}/logs")
                case _:
                    progress(event)
        late = time.monotonic() >= deadline
        raise SandboxError(
            "the sandbox was not ready in time" if late else "the sandbox's supervisor ended before all was ready",
            on=str(folder),
            hint=f"look at {folder}/logs",
        )
    except SandboxError:
        _end(supervisor)
        raise
    except BaseException:  # a Ctrl-C: nothing is left half started, wherever it was
        _end(supervisor)
        held = reaper.claim(folder)
        if held is not None:  # else it is the sandbox of another command
            os.close(held)
            down(folder)
        raise


_kept: list[Popen[bytes]] = []


def _keep(supervisor: Popen[bytes]) -> None:
    """Holds on to a supervisor that goes on: collected, it would warn, and a bound one would lose its stdin and end."""
    assert supervisor.stdout is not None
    supervisor.stdout.close()
    _let_go_of_the_ended()
    _kept.append(supervisor)


def _let_go_of_the_ended() -> None:
    """Takes note of supervisors that ended by another hand, which would stay as zombies."""
    for supervisor in [each for each in _kept if each.poll() is not None]:
        if supervisor.stdin:
            supervisor.stdin.close()
        _kept.remove(supervisor)


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


def _others(folder: Path, deadline: float) -> dict[str, Any]:
    """The state of the sandbox that somebody else is starting in the same folder at this moment."""
    while time.monotonic() < deadline:
        if found := sandbox_state.read(folder):
            return found
        held = reaper.claim(folder)
        if held is not None:  # whoever it was gave up
            os.close(held)
            break
        time.sleep(0.1)
    raise SandboxError(
        "another process held the sandbox's folder and did not bring it up", on=str(folder),
        hint="xai-runbook sandbox down, then up again",
    )  # fmt: skip


def _end(supervisor: Popen[bytes]) -> None:
    processes.end(supervisor, grace_seconds=STOP_SECONDS)
    for stream in (supervisor.stdin, supervisor.stdout):
        if stream:
            stream.close()


def down(folder: Path) -> bool:
    """See ``xai_runbook.sandbox.down``."""
    if not (folder / reaper.OURS).exists():
        return False
    found = sandbox_state.read_any(folder)
    if found and processes.alive(found["pid"], found["create_time"]):
        processes.end_pids({found["pid"]: signal.SIGTERM}, grace_seconds=STOP_SECONDS)
    for supervisor in [each for each in _kept if found and each.pid == found["pid"]]:
        _end(supervisor)
        _kept.remove(supervisor)
    _let_go_of_the_ended()
    held = reaper.claim(folder, wait_seconds=STOP_SECONDS)
    if held is None:
        raise SandboxError("another process holds the sandbox's folder", on=str(folder))
    try:
        reaper.clean(folder)
        reaper.remove(folder)
    finally:
        os.close(held)
    return True


def command(folder: Path, asked: dict[str, Any], seconds: float) -> list[str]:
    """What the supervisor of the folder's sandbox did about a command. Raises SandboxError if nothing."""
    if sandbox_state.read(folder) is None:
        raise SandboxError("no sandbox runs", on=str(folder), hint="xai-runbook sandbox up")
    deadline = time.monotonic() + seconds
    directory = os.open(folder, os.O_PATH)  # by descriptor: a socket's path has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(f"/proc/self/fd/{directory}/{sandbox_state.SOCKET_FILE}")
            connection.sendall(json.dumps(asked).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                chunk = connection.recv(65536)
                if not chunk:
                    break
                answer += chunk
        told = json.loads(answer)
    except (OSError, ValueError) as error:
        raise SandboxError(
            f"the sandbox's supervisor did not answer: {type(error).__name__}", on=str(folder),
            hint="xai-runbook sandbox status, or down and up again",
        ) from None  # fmt: skip
    finally:
        os.close(directory)
    if "done" not in told:
        raise SandboxError(told["what"], on=told["on"], hint=told["hint"])
    return list(told["done"])
