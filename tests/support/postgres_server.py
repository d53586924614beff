"""A PostgreSQL server of a test module's own: to stop, restart, fill, or run with other settings than the sandbox's."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from xai_runbook.clients.postgres.reader import Database
from xai_runbook.sandbox.components import postgres, postgres_template
from xai_runbook.sandbox.supervisor.component import Layout, Part, environment, free_ports
from xai_runbook.settings.database import DatabaseSettings
from xai_runbook.system import sandbox_state

SLOTS = 12


class Server:
    """One server on a copy of the sandbox's cluster. `options` are set on its command line; empty ones are not."""

    def __init__(self, layout: Layout, part: Part, **options: str) -> None:
        self.layout, self.part = layout, part
        self.options = {"max_connections": str(SLOTS), "superuser_reserved_connections": "3"} | options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        options = {name: value for name, value in self.options.items() if value}
        argv = [*self.part.argv, *(word for name, value in options.items() for word in ("-c", f"{name}={value}"))]
        (self.layout.folder / "tmp").mkdir(exist_ok=True)
        with open(self.layout.log_file("postgres"), "ab") as log:
            self.process = subprocess.Popen(
                argv, env=environment(self.layout.folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.part.ready():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.layout.log_file("postgres").read_text()[-600:])

    def stop(self) -> None:
        """Stop it and end its sessions."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection[Any]]:
        """Open a superuser's session through the socket."""
        with postgres_template.connect(self.data, self.port, "xai_blockchain") as connection:
            yield connection

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.layout.folder / "postgres" / "data"

    @property
    def port(self) -> int:
        """The server's port."""
        return self.layout.ports["postgres"]

    def settings(self, role: str = "monitor", **more: Any) -> DatabaseSettings:
        """Return the `database` settings for that role."""
        account = self.layout.role(role)
        tables = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": account.name,
            "password": f"file:{account.password_file}",
            "sslmode": "disable",
            "timeout": "2s",
        }
        return DatabaseSettings.model_validate(tables | more)

    @contextmanager
    def handle(self, role: str = "monitor", **more: Any) -> Iterator[Database]:
        """Yield a handle of the server."""
        handle = Database(self.settings(role, **more))
        try:
            yield handle
        finally:
            handle.close()

    @contextmanager
    def session(self, role: str = "app", name: str = "test") -> Iterator[psycopg.Connection[Any]]:
        """Open a session of that role by TCP, in autocommit mode."""
        account = self.layout.role(role)
        with psycopg.connect(
            host="127.0.0.1", port=self.port, dbname="xai_blockchain", user=account.name, password=account.password(),
            autocommit=True, connect_timeout=5, application_name=name,
        ) as connection:  # fmt: skip
            yield connection

    def wait_until_idle(self, pid: int | None = None) -> None:
        """Wait until that backend, or every backend of a handle, has ended."""
        end = time.monotonic() + 10
        while pid in self.backends() if pid else self.backends():
            assert time.monotonic() < end
            time.sleep(0.05)

    def backends(self) -> list[int]:
        """Return the pids of our handles' backends."""
        with self.superuser() as connection:
            rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'xai-runbook'")
            return [row[0] for row in rows]


@contextmanager
def running(folder: Path, **options: str) -> Iterator[Server]:
    """Yield a running server in that folder."""
    layout = Layout(folder, sandbox_state.cache_folder(), free_ports(["postgres"]))
    (part,) = postgres.parts(layout)
    assert part.prepare is not None
    assert part.finish is not None
    part.prepare()
    server = Server(layout, part, **options)
    server.start()
    try:
        part.finish()
        yield server
    finally:
        server.stop()
