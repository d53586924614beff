"""A private PostgreSQL cluster in a folder: no TCP, a socket for this user only, stopped with this process."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.errors import BadAnswer, NoData, TimedOut, inert
from xai_runbook.pgbackup.pg_tools import death_signal, run
from xai_runbook.system import child, processes

if TYPE_CHECKING:
    from subprocess import Popen

OWNER = "xai_scratch"
"""Superuser of a scratch cluster; no role of a real server has this name."""
_STOP_SECONDS = 30.0
_PRIVATE = {
    "listen_addresses": "",
    "unix_socket_directories": ".",  # the data directory: relative, because a socket path has at most 107 bytes
    "unix_socket_permissions": "0700",
    "port": "5432",
    "archive_mode": "off",  # it must not write to the archive from which it is recovered
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",
    "max_wal_size": "1GB",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "ssl": "off",
    "jit": "off",
}


def unprivileged() -> tuple[str, ...]:
    """Return the prefix of commands that start server programs: empty unless we are root or have no user name.

    The server refuses to run as root or without a user name. In a user namespace it sees an ordinary user, while its
    files stay owned by this user. Without user namespaces (many containers), root becomes `nobody`, who may still enter
    root's folders. Errors: NoData if neither works.
    """
    with suppress(KeyError):
        if os.geteuid() != 0 and pwd.getpwuid(os.geteuid()):
            return ()
    nobody = "--reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override"
    for prefix in (
        ("unshare", "-U", "--map-user=65534", "--map-group=65534"),
        # again, because a change of the user id clears the death signal
        ("setpriv", *nobody.split(), "--pdeathsig", "INT", "--"),
    ):
        with suppress(OSError):
            attempt = processes.run(
                [*prefix, "true"],
                env=child.environment(),
                cwd=child.NEUTRAL_FOLDER,
                deadline_seconds=30,
                death_signal=death_signal(signal.SIGKILL),
            )
            if attempt.returncode == 0:
                return prefix
    raise NoData(
        "PostgreSQL does not run as root, and neither unshare nor setpriv can change the user here",
        hint="run as an ordinary user",
    )


def create(programs: Path, data: Path, *, encoding: str, log: Path) -> None:
    """Create a cluster in `data`. Errors: NoData if the server programs are missing, BadAnswer if initdb fails."""
    _server(programs)
    options: list[str | Path] = ["-U", OWNER, "-A", "trust", "-E", encoding, "--locale=C", "--no-sync", "-D", data]
    run([*unprivileged(), programs / "initdb", *options], log=log)
    configure(data, {})


def configure(data: Path, overrides: dict[str, str]) -> None:
    """Replace the configuration of the cluster by a private one, with `overrides` added."""
    lines = [f"{name} = '{value}'\n" for name, value in {**_PRIVATE, **overrides}.items()]
    (data / "postgresql.conf").write_text("".join(lines), encoding="utf-8")
    (data / "postgresql.auto.conf").write_text("", encoding="utf-8")
    # the socket is in a folder of mode 0700
    (data / "pg_hba.conf").write_text("local all all trust\nlocal replication all trust\n", encoding="utf-8")
    (data / "pg_ident.conf").write_text("", encoding="utf-8")
    for name in ("postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal", "recovery.conf"):
        (data / name).unlink(missing_ok=True)


def control_data(programs: Path, data: Path, log: Path) -> dict[str, str]:
    """Return the output of pg_controldata by its labels. Errors: BadAnswer."""
    output = run([programs / "pg_controldata", data], log=log)
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in output.splitlines())}


@contextmanager
def started(
    programs: Path, data: Path, *, log: Path, seconds: float = 120.0, progress: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """Run the cluster for the time of a with block; yields the host by which this process and its children reach it.

    Errors: BadAnswer if it stops before it accepts connections (with its messages), TimedOut.
    """
    with open(log, "ab") as output:
        server = processes.start(
            [*unprivileged(), _server(programs), "-D", data],
            env=child.environment() | {"LC_ALL": "C", "TZ": "UTC"},
            cwd=data,
            stdout=output,
            stderr=output,
            own_group=True,
            death_signal=death_signal(signal.SIGINT),
        )
    folder = os.open(data, os.O_PATH)  # a path by descriptor is short enough for a socket
    try:
        _until_ready(server, data, log, seconds, progress)
        yield f"/proc/{os.getpid()}/fd/{folder}"
    finally:
        os.close(folder)
        processes.end(server, signal.SIGINT, grace_seconds=_STOP_SECONDS)


def remove(folder: Path) -> None:
    """Remove a folder and its content."""
    shutil.rmtree(folder, ignore_errors=True)


def last_errors(log: Path) -> str:
    """Return the last errors in the server's log."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [
        re.sub(r"^.*?(FATAL|PANIC|ERROR):\s*", "", line) for line in lines if re.search("FATAL|PANIC|ERROR", line)
    ]
    return inert("; ".join(errors[-2:] or lines[-2:]), 300)


def _server(programs: Path) -> Path:
    for name in ("postgres", "initdb"):
        if not (programs / name).exists():
            raise NoData(
                f"a private cluster needs {name}, but only the client programs are installed", on=str(programs),
                hint="install the server package, or set [backups.scratch] to a server of its own",
            )  # fmt: skip
    return programs / "postgres"


def _until_ready(server: Popen[bytes], data: Path, log: Path, seconds: float, progress: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while True:
        if server.poll() is not None:
            raise BadAnswer(f"the private cluster did not start: {last_errors(log)}", on=str(data))
        with suppress(OSError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            if len(lines) > 7 and lines[7].strip() in ("ready", "standby"):
                return
        if time.monotonic() > deadline:
            raise TimedOut(f"the private cluster was not ready within {seconds:.0f} s", on=str(data))
        progress()
        time.sleep(0.05)
