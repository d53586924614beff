"""The way through a bastion: an `ssh -N -L` child that ends with us, however we end.

Linux' death signal follows the thread that started a process, and a question's thread ends with its question. So a
small process of this module (`python -m xai_runbook.clients.postgres.tunnel ssh ...`) stands between: it holds ssh by
the death signal, and ends both when the pipe from us closes, which the kernel does for us even after a kill -9.
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

    from xai_runbook.settings.database import Bastion, DatabaseSettings

_OF_SSH = ("USER", "LOGNAME", "SSH_AUTH_SOCK")


class Tunnel:
    """A local port that leads to `host:port` as the bastion sees them; opened when it is first asked for."""

    def __init__(self, bastion: Bastion, host: str, port: int, seconds: float) -> None:
        self._bastion, self._seconds = bastion, seconds
        self._to = f"{f'[{host}]' if ':' in host else host}:{port}"
        self._process: Popen[bytes] | None = None
        self._port = 0
        self._turn = threading.Lock()

    @property
    def address(self) -> str:
        """Where it leads, as messages name it."""
        return f"{self._to} by way of {self._bastion.host}"

    def port(self) -> int:
        """The local port, once ssh listens on it. Errors: Unreachable, TimedOut, AccessDenied."""
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._begin()
            return self._port

    def close(self) -> None:
        """Ends ssh."""
        with self._turn:
            self._end()

    def _begin(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        # what ssh says goes to a file: a pipe that nobody reads would stop it one day
        with tempfile.TemporaryFile() as said:
            self._process = processes.start(
                child.python("xai_runbook.clients.postgres.tunnel", *self._argv()),
                env=child.environment() | {name: os.environ[name] for name in _OF_SSH if name in os.environ},
                cwd=child.NEUTRAL_FOLDER,
                stdin="pipe",
                stdout="null",
                stderr=said,
                own_group=True,
            )
            try:
                self._until_it_listens(said)
            except BaseException:
                self._end()
                raise

    def _until_it_listens(self, said: IO[bytes]) -> None:
        assert self._process is not None
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                said.seek(0)
                raise self._refused(said.read().decode(errors="replace"))
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=0.5):
                return
            time.sleep(0.05)
        raise TimedOut(
            f"the bastion did not let us through within {self._seconds:g} s",
            on=self.address,
            hint=f"ssh {self._bastion.host} by hand",
        )

    def _argv(self) -> list[str]:
        bastion = self._bastion
        options = {
            "BatchMode": "yes",  # nobody is there to be asked for a password
            "ExitOnForwardFailure": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(max(1, int(self._seconds))),
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
        }
        if bastion.known_hosts_file:
            options["UserKnownHostsFile"] = bastion.known_hosts_file
        argv = ["ssh", "-N", "-T", "-L", f"127.0.0.1:{self._port}:{self._to}"]
        argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv += ["-p", str(bastion.port)] if bastion.port else []
        argv += ["-l", bastion.user] if bastion.user else []
        argv += ["-i", bastion.identity_file, "-o", "IdentitiesOnly=yes"] if bastion.identity_file else []
        return [*argv, "--", bastion.host]

    def _refused(self, said: str) -> CannotAsk:
        last = inert((said.strip().splitlines() or ["it said nothing"])[-1], 200)
        hint = f"ssh {self._bastion.host} by hand"
        if "Permission denied" in said or "Host key verification failed" in said:
            return AccessDenied(f"the bastion lets us not in: {last}", on=self.address, hint=hint)
        return Unreachable(f"the way by the bastion failed: {last}", on=self.address, hint=hint)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
            if not processes.ended_within(process, 2):
                processes.kill(process)


def tunnel_of(settings: DatabaseSettings) -> Tunnel | None:
    """The tunnel that the settings want, not opened yet."""
    if settings.bastion is None:
        return None
    return Tunnel(settings.bastion, settings.host, settings.port, duration_seconds(settings.timeout))


def main() -> int:
    """Runs the command of its arguments until it ends, or until standard input does; its exit code."""
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

    def until_nobody_wants_it() -> None:
        sys.stdin.buffer.read()
        ssh.send_signal(signal.SIGTERM)

    threading.Thread(target=until_nobody_wants_it, daemon=True).start()
    return ssh.wait()


if __name__ == "__main__":
    # the thread still reads: a tidy end would wait for its lock on standard input
    os._exit(main())
