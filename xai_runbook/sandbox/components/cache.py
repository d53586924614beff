"""The sandbox's cache: a real Valkey or Redis server without persistence."""

from __future__ import annotations

import signal
import socket

from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor.component import Layout, Part


def parts(layout: Layout) -> list[Part]:
    """Return the cache server as a part, or nothing if no server program is found."""
    server = programs.find("valkey-server")
    if server is None:
        return []
    port = layout.ports["cache"]

    def ready() -> bool:
        with socket.create_connection((layout.host, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")

    options = {
        "port": str(port),
        "bind": layout.host,
        "dir": str(layout.part_folder("cache")),
        "save": "",
        "appendonly": "no",
        "maxmemory": "64mb",
        "maxmemory-policy": "allkeys-lru",
        "daemonize": "no",
    }
    argv = [str(server), *(word for name, value in options.items() for word in (f"--{name}", value))]
    return [Part("cache", argv, ready, signal.SIGTERM)]
