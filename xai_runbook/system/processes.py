"""Start, limit, end and inspect processes.

This is the only module that imports `subprocess`, and it does so only where a process is started or waited for: a
caller that only reads /proc does not pay for the import.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from subprocess import Popen

MAX_OUTPUT_BYTES = 16 * 2**20
KILLED_SECONDS = 30.0
"""Wait this long for a killed process: it ends at once unless it is in an uninterruptible system call."""

Stream = IO[bytes] | Literal["null", "pipe", "inherit"]


class Completed(NamedTuple):
    """Result of a program. A negative return code is the number of the signal that ended it."""

    returncode: int
    stdout: str
    stderr: str


class OutputTooLong(OSError):
    """A program wrote more than its limit and was killed."""


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | str,
    deadline_seconds: float,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    death_signal: signal.Signals | None = None,
) -> Completed:
    """Run a program to its end, with empty standard input, and then kill what is left of its process group.

    See `start` for the arguments. Errors: OSError if it cannot be started, TimeoutError after the deadline,
    OutputTooLong. The process group is killed in these cases too, and on Ctrl-C.
    """
    end_at = time.monotonic() + deadline_seconds
    process = start(argv, env=env, cwd=cwd, stdout="pipe", stderr="pipe", own_group=True, death_signal=death_signal)
    try:
        stdout, stderr = _output(process, end_at, max_output_bytes)
        if not ended_within(process, end_at - time.monotonic()):
            raise TimeoutError
    except TimeoutError:
        raise TimeoutError(f"{argv[0]} did not end within {deadline_seconds:g} s") from None
    except OutputTooLong:
        raise OutputTooLong(f"{argv[0]} wrote more than {max_output_bytes} bytes") from None
    finally:
        kill(process, group=True)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return Completed(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def start(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None,
    stdin: Stream = "null",
    stdout: Stream,
    stderr: Stream | Literal["stdout"],
    own_group: bool,
    death_signal: signal.Signals | None = None,
    before: Callable[[], object] | None = None,
) -> Popen[bytes]:
    """Start a program without a shell, with exactly these environment variables. Errors: OSError.

    `cwd` None means the caller's. `own_group` makes the process the leader of a new session and process group.
    `death_signal` is sent to it when the thread that started it ends, for any reason. `before` is called in the child
    before the program is executed; only a caller without threads may use it.
    """
    import subprocess

    named = {"null": subprocess.DEVNULL, "pipe": subprocess.PIPE, "inherit": None, "stdout": subprocess.STDOUT}
    streams = [named[stream] if isinstance(stream, str) else stream for stream in (stdin, stdout, stderr)]
    if death_signal is not None:
        argv = ["setpriv", "--pdeathsig", death_signal.name.removeprefix("SIG"), "--", *argv]
    return subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        start_new_session=own_group,
        preexec_fn=before,
    )


def _output(process: Popen[bytes], end_at: float, max_bytes: int) -> tuple[bytes, bytes]:
    """Read stdout and stderr to their ends. Errors: TimeoutError, OutputTooLong."""
    import selectors

    assert process.stdout is not None
    assert process.stderr is not None
    pieces: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    size_bytes = 0
    with selectors.DefaultSelector() as selector:
        for descriptor in pieces:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            remaining = end_at - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            for key, _ in selector.select(remaining):
                piece = os.read(key.fd, 65536)
                if not piece:
                    selector.unregister(key.fd)
                pieces[key.fd].append(piece)
                size_bytes += len(piece)
                if size_bytes > max_bytes:
                    raise OutputTooLong
    stdout, stderr = (b"".join(parts) for parts in pieces.values())
    return stdout, stderr


# -- ending children


def ended_within(process: Popen[bytes], seconds: float) -> bool:
    """Wait for a child to end, for at most `seconds`; return whether it has ended."""
    from subprocess import TimeoutExpired

    with suppress(TimeoutExpired):
        process.wait(max(0.0, seconds))
    return process.returncode is not None


def end(
    process: Popen[bytes], how: signal.Signals = signal.SIGTERM, *, grace_seconds: float, group: bool = False
) -> None:
    """Send a child a signal, continue it if it is stopped, and kill it if it has not ended after the grace time.

    With `group`, do so to its process group, and kill what is left of the group once the child has ended.
    """
    end_all({process: how}, grace_seconds=grace_seconds, group=group)


def end_all(processes: Mapping[Popen[bytes], signal.Signals], *, grace_seconds: float, group: bool = False) -> None:
    """End several children as `end` does, with one grace time for all of them."""
    for process, how in processes.items():
        for each in (how, signal.SIGCONT):
            if process.poll() is None:
                with suppress(OSError):
                    os.killpg(process.pid, each) if group else process.send_signal(each)
    deadline = time.monotonic() + grace_seconds
    for process in processes:
        if not ended_within(process, deadline - time.monotonic()) or group:
            kill(process, group=group)


def kill(process: Popen[bytes], *, group: bool = False) -> None:
    """Kill a child (with `group` its process group) and wait for it to end, for at most KILLED_SECONDS."""
    with suppress(OSError):
        if group:
            os.killpg(process.pid, signal.SIGKILL)  # its children too, which may outlive it
        else:
            process.kill()
    ended_within(process, KILLED_SECONDS)


# -- inspecting and ending other processes


def is_running(process: Popen[bytes]) -> bool:
    """Return whether a child is running.

    `poll` alone is not enough: while another thread waits for the process, it returns None for an ended one too.
    """
    return process.poll() is None and created_at(process.pid) is not None


def created_at(pid: int) -> float | None:
    """Return when a process was created, in seconds since boot; None if it has ended or is a zombie.

    Not psutil's `create_time`: that is wall clock time and changes when the clock is set.
    """
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19]) / os.sysconf("SC_CLK_TCK")


def is_alive(pid: int, created: float) -> bool:
    """Return whether the process that was created at `created` (seconds since boot) still runs under this pid."""
    actual = created_at(pid)
    return actual is not None and abs(actual - created) < 0.015


def condition(pid: int, created: float) -> str:
    """Return the state of a recorded process: `running`, `frozen` (stopped by a signal) or `ended`."""
    if not is_alive(pid, created):
        return "ended"
    return "frozen" if (_stat(pid) or "?")[0] in "Tt" else "running"


def pids_with_variable(name: str, value: str) -> list[int]:
    """Return the pids of this user's processes that were started with this environment variable.

    Not psutil's `environ`: it stops at an empty entry, and a server that sets its title (PostgreSQL, Valkey) has some.
    """
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _pids():
        with suppress(OSError):  # gone by now, or another user's
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def pids_working_in(folder: Path) -> list[int]:
    """Return the pids of this user's processes whose working folder this is."""
    found = []
    for pid in _pids():
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd") == str(folder):
                found.append(pid)
    return found


def end_pids(signals: Mapping[int, signal.Signals], *, grace_seconds: float) -> None:
    """End processes as `end` does, children or not. Killed processes get the grace time once more to end."""
    created = {pid: at for pid in signals if (at := created_at(pid)) is not None}
    for pid in created:
        _send(pid, signals[pid])
        _send(pid, signal.SIGCONT)
    for pid in _wait_for(created, grace_seconds):
        _send(pid, signal.SIGKILL)
    _wait_for(created, grace_seconds)


def _wait_for(created: Mapping[int, float], seconds: float) -> list[int]:
    """Wait for all processes to end; return the pids that still run when the time is up."""
    deadline = time.monotonic() + seconds
    while (running := [pid for pid, at in created.items() if is_alive(pid, at)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return running


def _send(pid: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended, and the pid may be another user's by now
        os.kill(pid, how)


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal())


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the program's name, which may contain spaces and parentheses."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() or None
    except OSError:
        return None
