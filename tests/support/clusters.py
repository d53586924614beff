"""PostgreSQL servers of a test's own, on copies of the sandbox's template: to stop, damage or fill."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from xai_runbook.clients.postgres.reader import Database
from xai_runbook.sandbox.components import postgres, postgres_template, standby
from xai_runbook.sandbox.supervisor.component import Layout, Part, environment, free_ports
from xai_runbook.settings.database import DatabaseSettings
from xai_runbook.system import sandbox_state

Answer = TypeVar("Answer")


class Cluster:
    """One server: the primary, or the standby that streams from it."""

    def __init__(self, layout: Layout, part: Part) -> None:
        self.layout, self.part = layout, part
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.layout.folder / self.part.name / "data"

    @property
    def port(self) -> int:
        return self.layout.ports[self.part.name]

    def start(self) -> None:
        assert self.part.prepare is not None and self.part.finish is not None
        self.part.prepare()
        (self.layout.folder / "tmp").mkdir(exist_ok=True)
        with open(self.layout.log_file(self.part.name), "ab") as log:
            self.process = subprocess.Popen(
                self.part.argv, env=environment(self.layout.folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self.part.ready)
        self.part.finish()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    @contextmanager
    def superuser(self, database: str = "xai_blockchain") -> Iterator[psycopg.Connection[Any]]:
        with postgres_template.connect(self.data, self.port, database) as connection:
            yield connection

    @contextmanager
    def handle(self, **more: Any) -> Iterator[Database]:
        role = self.layout.role("monitor")
        settings = {
            "host": "127.0.0.1", "port": self.port, "user": role.name, "password": f"file:{role.password_file}",
            "sslmode": "disable", "timeout": "10s",
        }  # fmt: skip
        handle = Database(DatabaseSettings.model_validate(settings | more))
        try:
            yield handle
        finally:
            handle.close()


@contextmanager
def primary(folder: Path, server: Path | None = None) -> Iterator[Cluster]:
    """Yield a running primary of that server program, by default the sandbox's."""
    layout = Layout(folder, sandbox_state.cache_folder(), free_ports(["postgres", "standby"]))
    (part,) = postgres.parts(layout, server)
    with _running(Cluster(layout, part)) as cluster:
        yield cluster


@contextmanager
def pair(folder: Path, server: Path | None = None) -> Iterator[tuple[Cluster, Cluster]]:
    """Yield a running primary, and a standby that streams from it."""
    with primary(folder, server) as first:
        (part,) = standby.parts(first.layout, server)
        with _running(Cluster(first.layout, part)) as second:
            yield first, second


@contextmanager
def _running(cluster: Cluster) -> Iterator[Cluster]:
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def eventually(ask: Callable[[], Answer], seconds: float = 30.0) -> Answer:
    """Return the first true answer; fail if there is none in time."""
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            if last := ask():
                return last  # type: ignore[return-value]
        except OSError as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s; last: {last!r}")
