"""SSH tunnel through a bastion: an `ssh -N -L` child that never outlives this process.

PR_SET_PDEATHSIG fires when the thread that started a child ends, and a query's thread ends with its query. So a small
supervisor (`python -m xai_runbook.clients.postgres.tunnel ssh ...`) starts ssh with the death signal and stops it once
standard input closes, which happens even if this process is killed with SIGKILL.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from typing import IO, TYPE_CHECKING

from xai_runbook.errors import AccessDenied, CannotAsk, TimedOut, Unreachable, inert
from xai_runbook.model.window import duration_seconds
from xai_runbook.system import child, processes
from xai_runbook.system.parent_death import die_with_parent

if TYPE_CHECKING:
    from subprocess import Popen

    from xai_runbook.settings.database import BastionSettings, DatabaseSettings

_SSH_VARIABLES = ("USER", "LOGNAME", "SSH_AUTH_SOCK")


class Tunnel:
    """A local port that is forwarded to `host:port` as the bastion resolves it; opened on first use."""

    def __init__(self, bastion: BastionSettings, host: str, port: int, seconds: float) -> None:
        self._bastion, self._seconds = bastion, seconds
        self._target = f"{f'[{host}]' if ':' in host else host}:{port}"
        self._process: Popen[bytes] | None = None
        self._port = 0
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Return HOST:PORT and the bastion, for messages."""
        return f"{self._target} through bastion {self._bastion.host}"

    def port(self) -> int:
        """Return the local port once ssh listens on it. Errors: Unreachable, TimedOut, AccessDenied."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._stop()
                self._start()
            return self._port

    def close(self) -> None:
        """Stop ssh."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        # ssh's messages go to a file: it would block on a full pipe that nobody reads
        with tempfile.TemporaryFile() as log:
            self._process = processes.start(
                child.module_argv("xai_runbook.clients.postgres.tunnel", *self._argv()),
                env=child.environment() | {name: os.environ[name] for name in _SSH_VARIABLES if name in os.environ},
                cwd=child.NEUTRAL_FOLDER,
                stdin="pipe",
                stdout="null",
                stderr=log,
                own_group=True,
            )
            try:
                self._wait_until_listening(log)
            except BaseException:
                self._stop()
                raise

    def _wait_until_listening(self, log: IO[bytes]) -> None:
        assert self._process is not None
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                log.seek(0)
                raise self._ssh_error(log.read().decode(errors="replace"))
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=0.5):
                return
            time.sleep(0.05)
        raise TimedOut(
            f"ssh did not open the tunnel within {self._seconds:g} s",
            on=self.address,
            hint=f"try ssh {self._bastion.host} by hand",
        )

    def _argv(self) -> list[str]:
        bastion = self._bastion
        options = {
            "BatchMode": "yes",  # ssh must not ask for a password
            "ExitOnForwardFailure": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(max(1, int(self._seconds))),
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
        }
        if bastion.known_hosts_file:
            options["UserKnownHostsFile"] = bastion.known_hosts_file
        argv = ["ssh", "-N", "-T", "-L", f"127.0.0.1:{self._port}:{self._target}"]
        argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv += ["-p", str(bastion.port)] if bastion.port else []
        argv += ["-l", bastion.user] if bastion.user else []
        argv += ["-i", bastion.identity_file, "-o", "IdentitiesOnly=yes"] if bastion.identity_file else []
        return [*argv, "--", bastion.host]

    def _ssh_error(self, output: str) -> CannotAsk:
        last = inert((output.strip().splitlines() or ["ssh printed no message"])[-1], 200)
        hint = f"try ssh {self._bastion.host} by hand"
        if "Permission denied" in output or "Host key verification failed" in output:
            return AccessDenied(f"the bastion rejected the login: {last}", on=self.address, hint=hint)
        return Unreachable(f"the tunnel through the bastion failed: {last}", on=self.address, hint=hint)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
            if not processes.ended_within(process, 2):
                processes.kill(process)


def tunnel_of(settings: DatabaseSettings) -> Tunnel | None:
    """Return the tunnel that the settings ask for, not opened yet, or None."""
    if settings.bastion is None:
        return None
    return Tunnel(settings.bastion, settings.host, settings.port, duration_seconds(settings.timeout))


def main() -> int:
    """Run the command in argv until it ends or standard input closes, and return its exit code."""
    try:
        ssh = processes.start(
            sys.argv[1:],
            env=os.environ,
            cwd=None,
            stdout="inherit",
            stderr="inherit",
            own_group=False,
            before=partial(die_with_parent, os.getpid()),
        )
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]} could not be started: {error.strerror}\n")
        return 127

    def stop_at_end_of_input() -> None:
        sys.stdin.buffer.read()
        ssh.send_signal(signal.SIGTERM)

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    return ssh.wait()


if __name__ == "__main__":
    # a normal exit would wait for the lock on standard input, which the reading thread holds
    os._exit(main())
