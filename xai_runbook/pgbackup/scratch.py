"""The database into which a backup is restored for a test: in a private cluster, or on the scratch server.

The server that the backup is of is never used: a scratch server with the same system identifier is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from xai_runbook.errors import AccessDenied, NoData, Refused, Unreachable
from xai_runbook.model.parts import UNKNOWN_IDENTIFIER
from xai_runbook.pgbackup import catalog, private_cluster
from xai_runbook.pgbackup.fingerprint import Connection, connect, fetch_rows
from xai_runbook.pgbackup.leftovers import EffectUnknown, drop_subscriptions, mark, remove

PREFIX = "SCRATCH_"
"""Prefix of the libpq variables of the scratch server, which stand beside those of the real server."""


@dataclass(frozen=True)
class Scratch:
    """An empty database to restore into."""

    variables: dict[str, str]
    """The environment with which libpq's programs reach it."""
    is_superuser: bool
    """Whether our role there is a superuser: only then can all roles and extensions be created."""
    description: str

    def connect(self) -> Connection:
        """Open a session in the database."""
        return connect(
            host=self.variables["PGHOST"], port=self.variables["PGPORT"], user=self.variables["PGUSER"],
            dbname=self.variables["PGDATABASE"], sslmode=self.variables.get("PGSSLMODE", "disable"),
        )  # fmt: skip


@contextmanager
def scratch(
    folder: Path, programs: Path, *, encoding: str, identifier: str, progress: Callable[[], object]
) -> Iterator[Scratch]:
    """Create a database for the time of a with block, on the scratch server if the environment names one.

    Errors: NoData, Unreachable, AccessDenied, Refused (it is the server that the backup is of).
    """
    if f"{PREFIX}PGHOST" in os.environ:
        with _on_server(encoding, identifier) as target:
            yield target
        return
    home = Path(tempfile.mkdtemp(dir=folder, prefix=catalog.SCRATCH))
    data, log = home / "data", home / "log"
    try:
        private_cluster.create(programs, data, encoding=encoding, log=log)
        with private_cluster.started(programs, data, log=log, progress=progress) as host:
            variables = {"PGHOST": host, "PGPORT": "5432", "PGUSER": private_cluster.OWNER, "PGSSLMODE": "disable"}
            _create(connect(host=host, port=5432, user=private_cluster.OWNER, dbname="postgres"), "scratch", encoding)
            yield Scratch({**variables, "PGDATABASE": "scratch"}, True, "a private cluster")
    finally:
        private_cluster.remove(home)


@contextmanager
def _on_server(encoding: str, identifier: str) -> Iterator[Scratch]:
    variables = {
        name.removeprefix(PREFIX): value for name, value in os.environ.items() if name.startswith(f"{PREFIX}PG")
    }
    address = f"{variables['PGUSER']}@{variables['PGHOST']}:{variables['PGPORT']}"
    name = f"xai_scratch_{os.getpid()}"
    try:
        session = connect(
            host=variables["PGHOST"], port=variables["PGPORT"], user=variables["PGUSER"], dbname="postgres",
            sslmode=variables.get("PGSSLMODE", "prefer"),
        )  # fmt: skip
    except psycopg.OperationalError:
        # libpq's message may contain the password
        raise Unreachable(
            "the scratch server is down or rejected the login",
            on=address,
            hint="check [backups.scratch] in the settings",
        ) from None
    with session:
        scratch_identifier = fetch_rows(session, "identity")[0]["system_identifier"]
        if scratch_identifier == identifier or UNKNOWN_IDENTIFIER in (scratch_identifier, identifier):
            verb = "is" if scratch_identifier == identifier != UNKNOWN_IDENTIFIER else "may be"
            raise Refused(
                f"the scratch server {verb} the one that the backup is of", on=address,
                hint="[backups.scratch] must name another server, or \"local\"",
            )  # fmt: skip
        superuser = session.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        for row in fetch_rows(session, "leftover_databases"):  # of killed runs, perhaps of another role
            with suppress(Refused, EffectUnknown, psycopg.Error):
                remove(session, row["name"], row["oid"])
        try:
            _create(session, name, encoding, close=False)
            oid = mark(session, name)
        except psycopg.errors.InsufficientPrivilege:
            raise AccessDenied(
                "the role may not create databases there", on=address, hint="ALTER ROLE ... CREATEDB"
            ) from None
        try:
            yield Scratch(
                {**variables, "PGDATABASE": name}, bool(superuser and superuser[0]), f"the scratch server {address}"
            )
        finally:
            with suppress(psycopg.Error, Refused):  # with its sessions: nobody else uses it
                drop_subscriptions(session, name, oid, [])
                force = " WITH (FORCE)" if session.info.server_version >= 130000 else ""
                session.execute(sql.SQL("DROP DATABASE IF EXISTS {}" + force).format(sql.Identifier(name)))


def _create(session: Connection, name: str, encoding: str, *, close: bool = True) -> None:
    try:
        session.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        )
    except psycopg.errors.UndefinedObject:
        raise NoData(f"the scratch server does not support encoding {encoding}") from None
    finally:
        if close:
            session.close()
