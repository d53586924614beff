"""Read-only handle on a PostgreSQL database: queries are files in `sql/`, and each handle has one connection."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from pandas import DataFrame
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from psycopg.sql import SQL, Composable, Identifier

from xai_runbook.clients.http.deadline import GRACE_SECONDS, within
from xai_runbook.clients.postgres.errors import translated
from xai_runbook.clients.postgres.tunnel import Tunnel, tunnel_of
from xai_runbook.errors import AccessDenied, InputError, NotConfigured, TimedOut, WrongServer
from xai_runbook.model.window import duration_seconds
from xai_runbook.sql import statement

if TYPE_CHECKING:
    from xai_runbook.settings.database import DatabaseSettings

Connection = psycopg.Connection[tuple[Any, ...]]
Identifiers = Mapping[str, tuple[str, ...]]


def server_identity(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return the columns of `sql/database/identity.sql` that identify the server and the database."""
    names = ("system_identifier", "server_address", "server_port", "database", "database_oid")
    return {name: str(rows[0][name]) for name in names}


def connection_parameters(settings: DatabaseSettings, tunnel: Tunnel | None, seconds: float) -> dict[str, Any]:
    """Return libpq's keywords for a connection by service, by host or through a tunnel, without the credentials.

    Through a tunnel `host` stays the server's name, which its certificate must match. Errors: those of the tunnel.
    """
    if settings.service:
        address: dict[str, Any] = {"service": settings.service}
    elif tunnel is not None:
        address = {"host": settings.host, "hostaddr": "127.0.0.1", "port": tunnel.port()}
    else:
        address = {"host": settings.host, "port": settings.port}
    return address | {
        "dbname": settings.dbname,
        "sslmode": settings.sslmode,
        "sslrootcert": settings.sslrootcert,
        "connect_timeout": max(2, int(seconds)),
    }


@dataclass(frozen=True)
class _Query:
    name: str
    parameters: Mapping[str, object] | None
    identifiers: Identifiers | None
    explained: str = ""
    """A statement written by a person, for EXPLAIN."""


class Database:
    """A read-only handle on one database. Threads may share it; queries run one at a time.

    Connections set default_transaction_read_only and timeouts, but what protects the data is the role, which owns
    nothing and may not write: connecting with any other is refused.
    """

    def __init__(
        self, settings: DatabaseSettings, *, environment: str = "", production: bool = False, proxied: bool = False
    ) -> None:
        self.environment, self.production, self.proxied = environment, production, proxied
        self._connection: Connection | None = None
        self._settings, self._tunnel = settings, tunnel_of(settings)
        self._proxy: Database | None = None
        self._seconds = duration_seconds(settings.timeout)
        self._lock = threading.Lock()

    @property
    def dbname(self) -> str:
        """Return the database's name."""
        return self._settings.dbname

    @property
    def settings(self) -> DatabaseSettings:
        """Return the settings of this database."""
        return self._settings

    @property
    def address(self) -> str:
        """Return "service NAME" or USER@HOST:PORT/DBNAME for messages, without a password."""
        settings = self._settings
        if settings.service:
            return f"service {settings.service}"
        return f"{settings.user}@{settings.host}:{settings.port}/{settings.dbname}"

    def frame(
        self, name: str, parameters: Mapping[str, object] | None = None, identifiers: Identifiers | None = None
    ) -> DataFrame:
        """Run `sql/NAME.sql` and return its rows; the columns are there even without rows.

        `identifiers` are quoted into the {name}s of the file, such as the schema of an extension. A connection that
        was lost while idle is replaced. Errors: Unreachable, TimedOut, AccessDenied, WrongServer, BadAnswer (the
        server refused the statement), SettingsError (the password cannot be read).
        """
        columns, rows = self._run(_Query(name, parameters, identifiers))
        return DataFrame.from_records(rows, columns=columns)

    def rows(
        self, name: str, parameters: Mapping[str, object] | None = None, identifiers: Identifiers | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of `frame` as the server sent them, for plans: pandas would infer other types."""
        columns, rows = self._run(_Query(name, parameters, identifiers))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def explain(self, statement: str, *, analyze: bool = False) -> list[str]:
        """Return the lines of EXPLAIN for one statement; with `analyze` it is run and rolled back.

        The server refuses a text of several statements. Errors: those of `frame`.
        """
        name = "explain_analyze" if analyze else "explain"
        _, rows = self._run(_Query(name, None, None, statement))
        return [str(row[0]) for row in rows]

    def identity(self) -> dict[str, str]:
        """Return which server this is: its system identifier, which a restored snapshot keeps, and where it listens."""
        return server_identity(self.rows("identity"))

    def ping(self) -> bool:
        """Return whether the server accepts connections, as pg_isready does. Errors: those of the tunnel."""
        parameters = connection_parameters(self._settings, self._tunnel, self._seconds)
        conninfo = make_conninfo("", **{key: value for key, value in parameters.items() if value is not None})
        with suppress(TimedOut):
            return within(
                self._seconds + GRACE_SECONDS, lambda: PGconn.ping(conninfo.encode()) == Ping.OK, on=self.address
            )
        return False

    def through_proxy(self) -> Database:
        """Return a handle that connects through the proxy or pooler in front of the database. Errors: NotConfigured."""
        if self._proxy is None:
            proxy = self._settings.proxy
            if proxy is None:
                raise NotConfigured(
                    "database.proxy is not configured",
                    on="database.proxy",
                    hint="add a table [database.proxy] with host",
                )
            settings = self._settings.model_copy(
                update={"host": proxy.host, "port": proxy.port, "sslmode": proxy.sslmode, "service": None}
            )
            self._proxy = Database(settings, environment=self.environment, production=self.production, proxied=True)
        return self._proxy

    def close(self) -> None:
        """Close the connection, the tunnel and the handle of the proxy."""
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if connection is not None:
                connection.close()
            if self._tunnel is not None:
                self._tunnel.close()
            if self._proxy is not None:
                self._proxy.close()

    __del__ = close  # notebooks do not close their handles

    def _run(self, query: _Query) -> tuple[list[str], list[tuple[Any, ...]]]:
        # another thread's query may take its whole timeout, but no longer
        if not self._lock.acquire(timeout=2 * self._seconds):
            raise TimedOut("the connection is busy with other queries", on=self.address, hint="ask again")
        attempt = _Attempt(self._connection)
        try:
            # the server's statement_timeout is shorter; this ends the wait for a server that hangs
            answer = within(
                self._seconds + GRACE_SECONDS,
                lambda: self._query(attempt, query),
                on=self.address,
                give_up=attempt.cut,
            )
            self._connection = attempt.connection
            return answer
        except psycopg.Error as error:
            self._connection = None
            raise translated(error, self.address) from None
        except BaseException:  # also Ctrl-C: a connection with a query in progress is not used again
            self._connection = None
            raise
        finally:
            self._lock.release()

    def _query(self, attempt: _Attempt, query: _Query) -> tuple[list[str], list[tuple[Any, ...]]]:
        idle = attempt.connection
        try:
            if idle is not None:
                try:
                    return self._answer(idle, query)
                except psycopg.OperationalError:
                    if not idle.closed or attempt.abandoned:  # the query failed, the connection did not
                        raise
            return self._answer(self._open(attempt), query)
        except BaseException:
            attempt.close()
            raise

    def _open(self, attempt: _Attempt) -> Connection:
        settings, milliseconds = self._settings, int(self._seconds * 1000)
        options = (
            f"-c default_transaction_read_only=on -c statement_timeout={milliseconds} -c lock_timeout=1000 "
            f"-c idle_in_transaction_session_timeout={milliseconds} -c search_path=pg_catalog -c TimeZone=UTC"
        )
        connection = psycopg.connect(
            "",
            **connection_parameters(settings, self._tunnel, self._seconds),
            user=settings.user,
            password=settings.password.reveal() if settings.password else None,
            application_name="xai-runbook",
            autocommit=True,
            options=None if self.proxied else options,  # a pooler refuses startup options
            prepare_threshold=None if self.proxied else 5,
        )
        attempt.attach(connection)
        self._identify(connection)
        return connection

    def _answer(self, connection: Connection, query: _Query) -> tuple[list[str], list[tuple[Any, ...]]]:
        if not self.proxied and not query.explained:
            return _rows(connection, query)
        with connection.transaction(force_rollback=bool(query.explained)):
            if self.proxied:  # the next transaction may run in another session, so these settings last for this one
                _rows(connection, _Query("transaction_settings", {"milliseconds": int(self._seconds * 1000)}, None))
            return _rows(connection, query)

    def _identify(self, connection: Connection) -> None:
        """Raise WrongServer for another server or database, and AccessDenied for a role that could change something."""
        _, rows = self._answer(connection, _Query("identity", None, None))
        expected, (system_identifier, dbname, privileges) = self._settings.system_identifier, rows[0][:3]
        if expected is not None and str(system_identifier) != expected:
            raise WrongServer(
                f"this is server {system_identifier}, the settings expect {expected}",
                on=self.address,
                hint="was it restored or failed over? If so, change system_identifier in the settings",
            )
        if dbname != self._settings.dbname:
            raise WrongServer(
                f"connected to database {dbname!r} instead", on=self.address, hint="check dbname in the settings"
            )
        if privileges:
            raise AccessDenied(
                f"role {self._settings.user} could change the database ({privileges}); queries need a role that cannot",
                on=self.address,
                hint="use a role with pg_monitor alone: CREATE ROLE xai_monitor LOGIN IN ROLE pg_monitor",
            )


class _Attempt:
    """The connection of one query, which another thread can cut while the query waits on it."""

    def __init__(self, connection: Connection | None) -> None:
        self.connection = None if connection is None or connection.closed else connection
        self.abandoned = False
        self._lock = threading.Lock()

    def attach(self, connection: Connection) -> None:
        """Store a new connection. Raise OperationalError if the attempt was cut while it was being opened."""
        with self._lock:
            self.connection = connection
        if self.abandoned:
            raise psycopg.OperationalError("the caller has given up")

    def cut(self) -> None:
        """Shut the socket down: a stopped backend does not answer a cancel request."""
        with self._lock:
            self.abandoned = True
            if self.connection is not None and not self.connection.closed:
                with suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. Only the thread that used it may call this."""
        with self._lock:
            if self.connection is not None:
                self.connection.close()


def _rows(connection: Connection, query: _Query) -> tuple[list[str], list[tuple[Any, ...]]]:
    text = SQL(statement(query.name, connection.info.server_version // 10000))
    percent = "%" if query.parameters is None else "%%"  # psycopg reads it as the start of a parameter
    names = {key: [part.replace("%", percent) for part in parts] for key, parts in (query.identifiers or {}).items()}
    if any("\0" in part for parts in names.values() for part in parts):
        raise InputError("a name with a NUL would be cut there, and mean another object")
    identifiers: dict[str, Composable] = {key: Identifier(*parts) for key, parts in names.items()}
    if query.explained:  # the one place where a statement written by a person is sent
        identifiers["statement"] = SQL(query.explained)  # pyright: ignore
    with connection.cursor() as cursor:
        # binary results need the extended protocol, which takes a single statement: `SELECT 1; DROP` is refused
        cursor.execute(
            text.format(**identifiers) if identifiers else text, query.parameters, binary=bool(query.explained) or None
        )
        return [column.name for column in cursor.description or ()], cursor.fetchall()
