"""The sandbox's standby: a second real PostgreSQL server that streams from the first.

It starts from the same template cluster. A replication slot on the primary retains the WAL that it has not received, so
it recovers after any pause. Its application name is NAME, which the settings expect (`[database] standbys`).
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.components.postgres_template import connect, copy_template, unprivileged
from xai_runbook.sandbox.supervisor.component import Layout, Part
from xai_runbook.system.files import write_atomically

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    import psycopg

    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

NAME = "xai-db-replica-1"
"""The runbook's name of the replica."""

SLOT = "xai_db_replica_1"
STREAMING_SECONDS = 20.0


def parts(layout: Layout, server: Path | None = None) -> list[Part]:
    """Return the standby as a part, or nothing if no server program is found or given."""
    server = server or programs.find("postgres")
    if server is None:
        return []
    data = folder(layout)

    def prepare() -> None:
        if not data.exists():
            _create_slot(layout)
            layout.part_folder("standby")
            copy_template(server, data, layout.cache)
        _write_settings(layout, data)

    def finish() -> None:
        deadline = time.monotonic() + STREAMING_SECONDS
        while not _is_streaming(layout):
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"the standby did not start streaming from the primary within {STREAMING_SECONDS:.0f} s", on=NAME
                )
            time.sleep(0.02)

    argv = [*unprivileged(), str(server), "-D", str(data), "-c", f"port={layout.ports['standby']}"]
    return [
        Part(
            "standby", argv, lambda: _reports_ready(data), signal.SIGINT,
            after=("postgres",), prepare=prepare, finish=finish, optional=True,
        )
    ]  # fmt: skip


def folder(layout: Layout) -> Path:
    """Return the standby's data folder."""
    return layout.folder / "standby" / "data"


def pause(supervisor: Supervisor) -> None:
    """Pause WAL replay on the standby; it still receives WAL, as it does behind a long query."""
    with _standby(supervisor.layout) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")


def resume(supervisor: Supervisor) -> None:
    """Resume WAL replay on the standby."""
    with _standby(supervisor.layout) as connection:
        connection.execute("SELECT pg_wal_replay_resume()")


def _write_settings(layout: Layout, data: Path) -> None:
    """Write the replication settings. The password is in a file of its own, which libpq reads."""
    role = layout.role("operator")
    line = f"{layout.host}:{layout.ports['postgres']}:*:{role.name}:{role.password()}\n"
    passfile = layout.folder / "secrets" / "standby.pgpass"
    write_atomically(passfile, line.encode())
    parameters = {
        "host": layout.host,
        "port": layout.ports["postgres"],
        "user": role.name,
        "passfile": passfile,
        "sslmode": "disable",
        "application_name": NAME,
    }
    conninfo = " ".join(f"{key}='{value}'" for key, value in parameters.items()).replace("'", "''")
    settings = {
        "primary_conninfo": conninfo,
        "primary_slot_name": SLOT,
        "hot_standby": "on",
        "wal_retrieve_retry_interval": "500ms",
        "wal_receiver_status_interval": "1s",
        "archive_mode": "off",
    }
    text = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    (data / "postgresql.auto.conf").write_text(text, encoding="utf-8")
    (data / "standby.signal").touch()


def _create_slot(layout: Layout) -> None:
    """Create the standby's slot on the primary, if it does not exist."""
    with _primary(layout) as connection:
        connection.execute(
            "SELECT pg_create_physical_replication_slot(%(slot)s, true)"
            " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s)",
            {"slot": SLOT},
        )


def _reports_ready(data: Path) -> bool:
    lines = (data / "postmaster.pid").read_text().splitlines()
    return len(lines) > 7 and lines[7].strip() in ("ready", "standby")


def _is_streaming(layout: Layout) -> bool:
    with _primary(layout) as connection:
        row = connection.execute(
            "SELECT state = 'streaming' FROM pg_stat_replication WHERE application_name = %s", [NAME]
        ).fetchone()
    return row is not None and bool(row[0])


def _primary(layout: Layout) -> AbstractContextManager[psycopg.Connection[Any]]:
    return connect(layout.folder / "postgres" / "data", layout.ports["postgres"], layout.database)


def _standby(layout: Layout) -> AbstractContextManager[psycopg.Connection[Any]]:
    return connect(folder(layout), layout.ports["standby"], layout.database)
