"""The sandbox's database: a real PostgreSQL server on a copy of the seeded template cluster."""

from __future__ import annotations

import secrets
import signal
import struct
from typing import TYPE_CHECKING, Any

from xai_runbook.sandbox.components import backups, programs
from xai_runbook.sandbox.components.postgres_template import connect, copy_template, reports_ready, unprivileged
from xai_runbook.sandbox.supervisor.component import Layout, Part
from xai_runbook.system.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

ROLES = ("owner", "app", "monitor", "operator")


def parts(layout: Layout, server: Path | None = None) -> list[Part]:
    """Return the database server as a part, or nothing if no server program is found or given."""
    server = server or programs.find("postgres")
    if server is None:
        return []
    run_as = unprivileged()
    data = layout.folder / "postgres" / "data"

    def prepare() -> None:
        for short in ROLES:
            file = layout.role(short).password_file
            if not file.exists():
                layout.part_folder("secrets")
                write_atomically(file, secrets.token_urlsafe(24).encode() + b"\n")
        if not data.exists():
            layout.part_folder("postgres")
            copy_template(server, data, layout.cache, backups.folder(layout))
        backups.archive(layout).mkdir(mode=0o700, exist_ok=True)

    def finish() -> None:
        with connect(data, layout.ports["postgres"], layout.database) as connection:
            set_passwords(connection, layout)
            connection.execute("SELECT count(*) FROM blocks")

    argv = [*run_as, str(server), "-D", str(data), "-c", f"port={layout.ports['postgres']}"]
    return [Part("postgres", argv, lambda: reports_ready(data), signal.SIGINT, prepare=prepare, finish=finish)]


def overlay(layout: Layout) -> dict[str, Any]:
    """Return the settings of the `database` table."""
    monitor, operator = layout.role("monitor"), layout.role("operator")
    settings: dict[str, Any] = {
        "host": layout.host,
        "port": layout.ports["postgres"],
        "dbname": layout.database,
        "user": monitor.name,
        "password": f"file:{monitor.password_file}",
        "operator": {"user": operator.name, "password": f"file:{operator.password_file}"},
    }
    control = layout.folder / "postgres" / "data" / "global" / "pg_control"
    if control.exists():  # otherwise there is no server program, and the database does not answer
        settings["system_identifier"] = str(struct.unpack_from("=Q", control.read_bytes())[0])
    return settings


def set_passwords(connection: psycopg.Connection[Any], layout: Layout) -> None:
    """Set each role's password. libpq hashes it here, so that server and log get the SCRAM verifier only."""
    from psycopg import sql

    for short in ROLES:
        role = layout.role(short)
        verifier = connection.pgconn.encrypt_password(role.password().encode(), role.name.encode(), b"scram-sha-256")
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role.name), sql.Literal(verifier.decode()))
        )
