"""The sandbox's pooler: a real PgBouncer before the database, for whoever wants to come in by it."""

from __future__ import annotations

import signal
from typing import Any

from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.components.postgres_template import unprivileged
from xai_runbook.sandbox.supervisor.component import Layout, Part, accepts_connections
from xai_runbook.system.files import write_whole

POOL_SIZE = 4
"""Servers that each pool (a database and a user) may open."""


def parts(layout: Layout) -> list[Part]:
    """The pooler as a part, or nothing where its program or the database's is not found."""
    program = programs.find("pgbouncer")
    if program is None or programs.find("postgres") is None:
        return []
    port = layout.ports["pooler"]
    folder = layout.folder / "pooler"

    def prepare() -> None:
        layout.part_folder("pooler")
        roles = [layout.role(short) for short in ("app", "monitor")]
        users = "".join(f'"{role.name}" "{role.password()}"\n' for role in roles)
        write_whole(folder / "users", users.encode())
        write_whole(folder / "pgbouncer.ini", configuration(layout).encode())

    argv = [*unprivileged(), str(program), str(folder / "pgbouncer.ini")]
    return [
        Part(
            "pooler", argv, lambda: accepts_connections(port), signal.SIGTERM,
            after=("postgres",), prepare=prepare, optional=True,
        )
    ]  # fmt: skip


def configuration(layout: Layout) -> str:
    """pgbouncer.ini: transaction pooling, everybody by password, and the monitor may look at the console."""
    settings = {
        "listen_addr": layout.host,
        "listen_port": layout.ports["pooler"],
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": layout.folder / "pooler" / "users",
        "stats_users": layout.role("monitor").name,
        "pool_mode": "transaction",
        "default_pool_size": POOL_SIZE,
        "max_client_conn": 100,
        "server_tls_sslmode": "disable",
        "log_connections": 0,
        "log_disconnections": 0,
        "stats_period": 3600,
    }
    connection = f"host={layout.host} port={layout.ports['postgres']} dbname={layout.database}"
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    return f"[databases]\n{layout.database} = {connection}\n\n[pgbouncer]\n{lines}"


def overlay(layout: Layout) -> dict[str, Any]:
    """What the settings of the sandbox's `pooler` table are; none where it is not there."""
    if "pooler" in layout.missing or not parts(layout):
        return {}
    monitor = layout.role("monitor")
    return {
        "pooler": {
            "host": layout.host,
            "port": layout.ports["pooler"],
            "user": monitor.name,
            "password": f"file:{monitor.password_file}",
            "sslmode": "disable",
        }
    }


def proxy(layout: Layout) -> dict[str, Any]:
    """The database's settings that lead through it; none where it is not there."""
    if "pooler" in layout.missing or not parts(layout):
        return {}
    return {"proxy": {"host": layout.host, "port": layout.ports["pooler"], "sslmode": "disable"}}
