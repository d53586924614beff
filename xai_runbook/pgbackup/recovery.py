"""Recovers a private copy of a base backup to a recovery target, with WAL from the archive."""

from __future__ import annotations

import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from xai_runbook.errors import BadAnswer, TimedOut
from xai_runbook.pgbackup import catalog, private_cluster
from xai_runbook.pgbackup.fingerprint import Connection, Contents, connect, contents, fetch_rows
from xai_runbook.pgbackup.pg_tools import run, timeout_seconds

Say = Callable[[str], None]
DATA = "data"
"""Folder of the data directory within a base backup."""
_SETTINGS = {
    # a standby needs at least the values of the primary
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


@dataclass(frozen=True)
class RecoveredCluster:
    """A cluster that is paused at its recovery target, open for reading."""

    host: str
    superuser: str
    log: Path

    def connect(self, database: str = "postgres") -> Connection:
        """Open a session as superuser."""
        return connect(host=self.host, port=5432, user=self.superuser, dbname=database, sslmode="disable")

    def contents(self, say: Say) -> dict[str, Contents]:
        """Read every row of every table, and return the contents of each database."""
        with self.connect() as session:
            names = [row["database"] for row in fetch_rows(session, "databases")]
        found = {}
        for name in names:
            with self.connect(name) as session:
                found[name] = contents(session, lambda message, name=name: say(f"{message} in {name}"))  # type: ignore[misc]
        return found

    def reached(self) -> dict[str, str | None]:
        """Return how far it was recovered: lsn, last_commit_at (ISO, UTC), stopped (the message of the server)."""
        with self.connect() as session:
            (row,) = fetch_rows(session, "recovery_reached")
        messages = re.findall(r"LOG:\s+(recovery stopping .*)", self.log.read_text(encoding="utf-8", errors="replace"))
        at = row["last_commit_at"]
        return {"lsn": row["lsn"], "last_commit_at": at.isoformat() if at else None, "stopped": (messages or [""])[-1]}


@contextmanager
def recovered_cluster(
    folder: Path,
    backup: catalog.Backup,
    tools: Path,
    *,
    archive: Path | None,
    target_settings: dict[str, str],
    say: Say,
    keep: Path | None = None,
) -> Iterator[RecoveredCluster]:
    """Recover a private copy of the base backup to the target (recovery_target settings) for the time of a with block.

    Afterwards it is removed or, with `keep` and without an error in the block, promoted, shut down and moved there. The
    backup itself is never started. Errors: BadAnswer if the target cannot be reached (with the server's message),
    TimedOut.
    """
    home = Path(tempfile.mkdtemp(dir=folder, prefix=catalog.SCRATCH))
    data, log = home / DATA, home / "log"
    try:
        say(f"copying {backup.name}")
        run(["cp", "-a", "--reflink=auto", "--", backup.path / DATA, data], log=home / "copy.log")
        data.chmod(0o700)
        control = private_cluster.control_data(tools, data, home / "control.log")
        needed = {name: control[line] for line, name in _SETTINGS.items() if line in control}
        private_cluster.configure(data, {**needed, **_settings(archive, target_settings)})
        (data / "recovery.signal").touch(mode=0o600)
        superuser = str(backup.manifest["superuser"])
        with private_cluster.started(
            tools, data, log=log, seconds=timeout_seconds(), progress=lambda: say("recovering")
        ) as host:
            cluster = RecoveredCluster(host, superuser, log)
            _wait_until_stopped(cluster, data, say)
            yield cluster
            if keep is not None:
                _promote(cluster)
        if keep is not None:
            data.rename(keep)
    finally:
        private_cluster.remove(home)


def _settings(archive: Path | None, target_settings: dict[str, str]) -> dict[str, str]:
    # the server runs this in a shell and expands %, so both are escaped
    source = shlex.quote(str(archive)).replace("%", "%%") if archive else ""
    command = f"cp -- {source}/%f %p" if archive else "false"
    return {
        "restore_command": command.replace("'", "''"),
        "hot_standby": "on",
        "recovery_target_action": "pause",
        "recovery_target_timeline": "current",  # other timelines belong to clusters that were recovered before
        **{name: value.replace("'", "''") for name, value in target_settings.items()},
    }


def _wait_until_stopped(cluster: RecoveredCluster, data: Path, say: Say) -> None:
    """Wait until the cluster is paused at its target. Errors: BadAnswer if it stopped instead, TimedOut."""
    deadline = time.monotonic() + timeout_seconds()
    while True:
        try:
            with cluster.connect() as session:
                (row,) = fetch_rows(session, "recovery_paused")
            if row["paused"]:
                return
        except psycopg.OperationalError:
            if not (data / "postmaster.pid").exists():
                raise BadAnswer(f"recovery ended early: {private_cluster.last_errors(cluster.log)}") from None
        if time.monotonic() > deadline:
            raise TimedOut("recovery did not reach its target in time", on=str(data))
        say("recovering")
        time.sleep(0.1)


def _promote(cluster: RecoveredCluster) -> None:
    """End recovery: the cluster continues on a new timeline. Errors: TimedOut."""
    with cluster.connect() as session:
        session.execute("SELECT pg_wal_replay_resume()")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            (row,) = session.execute("SELECT pg_is_in_recovery()").fetchall()
            if not row[0]:
                session.execute("CHECKPOINT")
                return
            time.sleep(0.1)
    raise TimedOut("the recovered cluster was not promoted in time", on=str(cluster.log))
