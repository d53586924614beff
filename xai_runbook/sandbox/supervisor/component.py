"""Data model of a sandbox: its layout (folders, ports, roles) and its parts (one process each).

A component module returns ``Part`` values from a function that takes the ``Layout``; only the supervisor starts them.
This module imports little, because every part imports it when it starts.
"""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from xai_runbook.errors import SandboxError
from xai_runbook.system import child

MARK = "XAI_RUNBOOK_SANDBOX_PART"
"""Environment variable of every sandbox process; its value is the real path of the run folder."""

START_HEIGHT = 1_204_800
"""Height at which the nodes start: the newest block of the seeded database and the end of the metric history."""

DATABASE_OID = 16384
"""First OID that a new cluster assigns; the metric history's labels contain it, as those of the live series do."""

NODES = ("node-1", "node-2", "node-3")
REFERENCE = "mainnet"
"""Name of the reference node, which others run: the network's height is compared with its height."""

PORT_NAMES = (
    "postgres",
    "standby",
    "cache",
    "prometheus",
    "alertmanager",
    "grafana",
    "node-exporter",
    "postgres-exporter",
    "pooler",
    "quota",
    *NODES,
    REFERENCE,
    *(f"{name}-peer" for name in (*NODES, REFERENCE)),
)
"""One loopback port is allocated for each of these names."""


class PortTaken(SandboxError):
    """Raised when another program took a part's port after the sandbox had chosen it."""


@dataclass(frozen=True)
class Part:
    """One process of the sandbox: its command line, its readiness check and the signal that stops it."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    """Called about every 20 ms in the part's own thread until it returns True. False or OSError means not ready yet."""
    death_signal: signal.Signals
    """Sent when the supervisor dies, and first when the part is stopped (SIGKILL follows after five seconds)."""
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None
    """Called in the part's own thread before every start, so it must cope with files from an earlier start."""
    finish: Callable[[], None] | None = None
    """Called in the part's own thread each time the part is ready, before parts that depend on it start."""
    ready_seconds: float = 60.0
    optional: bool = False
    """If an optional part does not start, it is recorded in ``missing`` and the other parts run."""


@dataclass(frozen=True)
class Role:
    """A database role; its password is in a file that only this user can read."""

    name: str
    password_file: Path

    def password(self) -> str:
        """Return the password in plain text. Raises OSError before the first start of the database."""
        return self.password_file.read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class Layout:
    """Paths and ports of one sandbox: run folder, cache folder, and a loopback port for each name in PORT_NAMES."""

    folder: Path
    cache: Path
    ports: Mapping[str, int]
    host: str = "127.0.0.1"
    database: str = "xai_blockchain"
    missing: dict[str, str] = field(default_factory=dict)
    """Parts that cannot run here, with the reason; filled while the sandbox starts."""

    def part_folder(self, name: str) -> Path:
        """Return the folder of a part; create it (mode 0700) if needed."""
        path = self.folder / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def log_file(self, name: str) -> Path:
        """Return the file that receives a part's stdout and stderr."""
        return self.part_folder("logs") / f"{name}.log"

    def role(self, short: str) -> Role:
        """Return a role by its short name: owner, app (the workload's), monitor (reads) or operator (makes changes)."""
        return Role(f"xai_{short}", self.folder / "secrets" / f"{short}.password")

    def url(self, name: str) -> str:
        """Return ``http://127.0.0.1:PORT`` of a part."""
        return f"http://{self.host}:{self.ports[name]}"


def free_ports(names: Sequence[str] = PORT_NAMES) -> dict[str, int]:
    """Return a different free loopback port for each name, reserved for as long as this process lives.

    The ports stay bound without listening. Connections to them are refused, no other program can take them, and a
    server that sets SO_REUSEADDR (all servers of the sandbox do) can listen on them, stop, and listen again.
    """
    ports = {}
    for name in names:
        placeholder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        placeholder.bind(("127.0.0.1", 0))
        ports[name] = placeholder.getsockname()[1]
        placeholder.detach()  # stays open until this process ends
    return ports


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether something accepts a TCP connection on the port within half a second."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def is_port_taken(port: int) -> bool:
    """Return whether another program listens on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # otherwise connections in TIME_WAIT would count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def seed_hash(height: int) -> str:
    """Return the hash of a seeded block (height up to START_HEIGHT), the same in the database and on the nodes."""
    return sha256(f"xai-sandbox block {height}".encode()).hexdigest()


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a part: only what programs need to run, and nothing else from the caller's."""
    return child.environment() | {
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        MARK: str(folder),
    }
