"""The sandbox's pooler: a real PgBouncer in front of the database."""

from __future__ import annotations

import signal
from typing import Any

from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.components.postgres_template import unprivileged
from xai_runbook.sandbox.supervisor.component import Layout, Part, accepts_connections
from xai_runbook.system.files import write_atomically

POOL_SIZE = 4
"""Server connections per pool (a database and a user)."""


def parts(layout: Layout) -> list[Part]:
    """Return the pooler as a part, or nothing if its program or PostgreSQL's is not found."""
    program = programs.find("pgbouncer")
    if program is None or programs.find("postgres") is None:
        return []
    port = layout.ports["pooler"]
    folder = layout.folder / "pooler"

    def prepare() -> None:
        layout.part_folder("pooler")
        roles = [layout.role(short) for short in ("app", "monitor")]
        users = "".join(f'"{role.name}" "{role.password()}"\n' for role in roles)
        write_atomically(folder / "users", users.encode())
        write_atomically(folder / "pgbouncer.ini", configuration(layout).encode())

    argv = [*unprivileged(), str(program), str(folder / "pgbouncer.ini")]
    return [
        Part(
            "pooler", argv, lambda: accepts_connections(port), signal.SIGTERM,
            after=("postgres",), prepare=prepare, optional=True,
        )
    ]  # fmt: skip


def configuration(layout: Layout) -> str:
    """Return pgbouncer.ini: transaction pooling, password logins, and read access to the console for the monitor."""
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
    """Return the settings of the `pooler` table; empty if there is no pooler."""
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
    """Return the database settings that name the pooler as proxy; empty if there is no pooler."""
    if "pooler" in layout.missing or not parts(layout):
        return {}
    return {"proxy": {"host": layout.host, "port": layout.ports["pooler"], "sslmode": "disable"}}
