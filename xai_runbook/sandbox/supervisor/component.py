"""What the sandbox is made of, as data: its layout on disk and on loopback, and its parts (one process each).

A module that contributes to the sandbox returns ``Part`` values from a function of the ``Layout``; only the supervisor
starts them. Next to no imports, because every part pays for them at its start.
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
"""The environment variable that every process of a sandbox carries; its value is the run folder's real path."""

START_HEIGHT = 1_204_800
"""The height at which the nodes start: the newest block that the database is seeded with, the end of the history."""

DATABASE_OID = 16384
"""The first that a new cluster gives away: the history's database is the live one by it."""

NODES = ("node-1", "node-2", "node-3")
REFERENCE = "mainnet"

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


class PortTaken(SandboxError):
    """A part could not have its port: another program took it after it was chosen."""


@dataclass(frozen=True)
class Part:
    """One process of the sandbox: how it starts, how to tell that it is ready, and which signal ends it."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    """Asked about every 20 ms from the part's own thread until it says True; False or OSError means not yet."""
    death_signal: signal.Signals
    """What the process gets when its supervisor dies, and first at teardown (KILL follows after five seconds)."""
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    prepare: Callable[[], None] | None = None
    """Runs in the part's own thread before each start, so it must cope with what an earlier start left."""
    finish: Callable[[], None] | None = None
    """Runs in the part's own thread once after each ready, before the parts that come after it may start."""
    ready_seconds: float = 60.0
    optional: bool = False
    """An optional part that does not start is noted under ``missing`` and the rest runs."""


@dataclass(frozen=True)
class Role:
    """A database role with a password of its own, kept in a file that only this user reads."""

    name: str
    password_file: Path

    def password(self) -> str:
        """The password in clear. Raises OSError before the database's first start has written it."""
        return self.password_file.read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class Layout:
    """Where everything of one sandbox is: its run folder, the cache folder, a loopback port for each name in PORTS."""

    folder: Path
    cache: Path
    ports: Mapping[str, int]
    host: str = "127.0.0.1"
    database: str = "xai_blockchain"
    missing: dict[str, str] = field(default_factory=dict)
    """The parts that cannot run here, with the reason; filled while the sandbox comes up."""

    def part_folder(self, name: str) -> Path:
        """The folder that a part may fill; it is made (0700) when it is not there."""
        path = self.folder / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def log_file(self, name: str) -> Path:
        """The file that takes a part's stdout and stderr."""
        return self.part_folder("logs") / f"{name}.log"

    def role(self, short: str) -> Role:
        """A role by its short name: owner, app (the workload writes as it), monitor (reads), operator (acts)."""
        return Role(f"xai_{short}", self.folder / "secrets" / f"{short}.password")

    def url(self, name: str) -> str:
        """``http://127.0.0.1:PORT`` of a part."""
        return f"http://{self.host}:{self.ports[name]}"


def free_ports(names: Sequence[str] = PORT_NAMES) -> dict[str, int]:
    """A loopback port for each name, all different, that nobody else is given for as long as this process lives.

    They stay bound by it without listening, so a connection is refused there, and a server that sets SO_REUSEADDR (as
    all that are started here do) may listen, end, and come back, while no other program gets hold of them in between.
    """
    ports = {}
    for name in names:
        placeholder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        placeholder.bind(("127.0.0.1", 0))
        ports[name] = placeholder.getsockname()[1]
        placeholder.detach()  # never closed: the kernel does, when the process ends
    return ports


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts a TCP connection there within half a second."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def is_port_taken(port: int) -> bool:
    """Whether another program listens on this loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else our own dying connections count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def seed_hash(height: int) -> str:
    """The hash of a seeded block (height up to START_HEIGHT): the database's rows and the nodes' past agree on it."""
    return sha256(f"xai-sandbox block {height}".encode()).hexdigest()


def environment(folder: Path) -> dict[str, str]:
    """The small environment that parts start with: nothing of the caller's but what programs need to be found."""
    return child.environment() | {
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        MARK: str(folder),
    }
