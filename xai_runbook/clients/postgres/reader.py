"""PostgreSQL, as a role that may only read. One query a file in `sql/`; one connection a handle."""

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
Names = Mapping[str, tuple[str, ...]]


def identified(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The facts of `sql/database/identity.sql` that tell one server and database from all others."""
    names = ("system_identifier", "server_address", "server_port", "database", "database_oid")
    return {name: str(rows[0][name]) for name in names}


def place(settings: DatabaseSettings, tunnel: Tunnel | None, seconds: float) -> dict[str, Any]:
    """Where a session goes, as libpq's keywords: by service file, by host, or by a tunnel.

    Through a tunnel the host's name stays: its certificate must be that host's. Errors: those of the tunnel.
    """
    if settings.service:
        where: dict[str, Any] = {"service": settings.service}
    elif tunnel is not None:
        where = {"host": settings.host, "hostaddr": "127.0.0.1", "port": tunnel.port()}
    else:
        where = {"host": settings.host, "port": settings.port}
    return where | {
        "dbname": settings.dbname,
        "sslmode": settings.sslmode,
        "sslrootcert": settings.sslrootcert,
        "connect_timeout": max(2, int(seconds)),
    }


@dataclass(frozen=True)
class _Question:
    name: str
    parameters: Mapping[str, object] | None
    identifiers: Names | None
    explained: str = ""


class Database:
    """A read-only handle on one database: who we are, and how long we may take, is told to the server on connecting.

    `SET default_transaction_read_only` is a seat belt; the wall is that the role owns nothing and may write nothing.
    """

    def __init__(
        self, settings: DatabaseSettings, *, environment: str = "", production: bool = False, proxied: bool = False
    ) -> None:
        self.environment, self.production, self.proxied = environment, production, proxied
        self._connection: Connection | None = None
        self._settings, self._tunnel = settings, tunnel_of(settings)
        self._proxy: Database | None = None
        self._seconds = duration_seconds(settings.timeout)
        self._one_at_a_time = threading.Lock()

    @property
    def dbname(self) -> str:
        """The database's name."""
        return self._settings.dbname

    @property
    def expected(self) -> DatabaseSettings:
        """What the settings say of it: its standbys, its role in replication, what is to be examined."""
        return self._settings

    @property
    def address(self) -> str:
        """Where it is, as messages name it; never with a password."""
        where = self._settings
        return f"service {where.service}" if where.service else f"{where.user}@{where.host}:{where.port}/{where.dbname}"

    def frame(
        self, name: str, parameters: Mapping[str, object] | None = None, identifiers: Names | None = None
    ) -> DataFrame:
        """The rows of `sql/NAME.sql`, a column each as the query names it; empty with its columns where none match.

        `identifiers` are quoted into {name}s of the file, such as the schema that an extension was put in.

        A connection that was lost while nobody asked is opened anew. Errors: Unreachable, TimedOut, AccessDenied,
        WrongServer, BadAnswer (the server refused the statement), SettingsError (the password cannot be read).
        """
        columns, rows = self._bounded(_Question(name, parameters, identifiers))
        return DataFrame.from_records(rows, columns=columns)

    def rows(
        self, name: str, parameters: Mapping[str, object] | None = None, identifiers: Names | None = None
    ) -> list[dict[str, Any]]:
        """As `frame`, but the rows as the server gave them: what a plan holds must not have been through pandas."""
        columns, rows = self._bounded(_Question(name, parameters, identifiers))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def explained(self, statement: str, *, analyze: bool = False) -> list[str]:
        """The lines of the plan for a statement that a person wrote; with `analyze` it is run, and rolled back.

        It is sent so that the server takes one statement and no more. Errors: as `frame`.
        """
        name = "explain_analyze" if analyze else "explain"
        _, rows = self._bounded(_Question(name, None, None, statement))
        return [str(row[0]) for row in rows]

    def identity(self) -> dict[str, str]:
        """Which server this is, measured: its identifier, which a restored snapshot keeps, and where it listens."""
        return identified(self.rows("identity"))

    def ping(self) -> bool:
        """Whether a server there says that it takes connections, as pg_isready asks it. Errors: those of a tunnel."""
        told = place(self._settings, self._tunnel, self._seconds)
        asked = make_conninfo("", **{key: value for key, value in told.items() if value is not None})
        with suppress(TimedOut):
            return within(
                self._seconds + GRACE_SECONDS, lambda: PGconn.ping(asked.encode()) == Ping.OK, on=self.address
            )
        return False

    def through_proxy(self) -> Database:
        """The handle that asks the same by the proxy or pooler in front of it. Errors: NotConfigured."""
        if self._proxy is None:
            proxy = self._settings.proxy
            if proxy is None:
                raise NotConfigured(
                    "database.proxy is not configured", on="database.proxy", hint="a table [database.proxy] with host"
                )
            told = self._settings.model_copy(
                update={"host": proxy.host, "port": proxy.port, "sslmode": proxy.sslmode, "service": None}
            )
            self._proxy = Database(told, environment=self.environment, production=self.production, proxied=True)
        return self._proxy

    def close(self) -> None:
        """Ends the connection, if there is one, and what it went through."""
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if connection is not None:
                connection.close()
            if self._tunnel is not None:
                self._tunnel.close()
            if self._proxy is not None:
                self._proxy.close()

    __del__ = close  # nobody has to remember: a notebook's handle ends with the notebook

    def _bounded(self, question: _Question) -> tuple[list[str], list[tuple[Any, ...]]]:
        # the wait for another thread's question counts too: two questions may take twice the time, not for ever
        if not self._one_at_a_time.acquire(timeout=2 * self._seconds):
            raise TimedOut("other questions still occupy the connection", on=self.address, hint="ask again")
        attempt = _Attempt(self._connection)
        try:
            # the server has its own shorter statement_timeout; this is for a server that does not keep it
            answer = within(
                self._seconds + GRACE_SECONDS,
                lambda: self._ask(attempt, question),
                on=self.address,
                give_up=attempt.cut,
            )
            self._connection = attempt.connection
            return answer
        except psycopg.Error as error:
            self._connection = None
            raise translated(error, self.address) from None
        except BaseException:  # Ctrl-C too: a connection in the middle of a question is not asked another
            self._connection = None
            raise
        finally:
            self._one_at_a_time.release()

    def _ask(self, attempt: _Attempt, question: _Question) -> tuple[list[str], list[tuple[Any, ...]]]:
        idle = attempt.connection
        try:
            if idle is not None:
                try:
                    return self._answer(idle, question)
                except psycopg.OperationalError:
                    if not idle.closed or attempt.given_up:  # refused, not lost
                        raise
            return self._answer(self._open(attempt), question)
        except BaseException:
            attempt.close()
            raise

    def _open(self, attempt: _Attempt) -> Connection:
        where, milliseconds = self._settings, int(self._seconds * 1000)
        belt = (
            f"-c default_transaction_read_only=on -c statement_timeout={milliseconds} -c lock_timeout=1000 "
            f"-c idle_in_transaction_session_timeout={milliseconds} -c search_path=pg_catalog -c TimeZone=UTC"
        )
        connection = psycopg.connect(
            "",
            **place(where, self._tunnel, self._seconds),
            user=where.user,
            password=where.password.reveal() if where.password else None,
            application_name="xai-runbook",
            autocommit=True,
            options=None if self.proxied else belt,  # a pooler refuses them
            prepare_threshold=None if self.proxied else 5,
        )
        attempt.took(connection)
        self._identify(connection)
        return connection

    def _answer(self, connection: Connection, question: _Question) -> tuple[list[str], list[tuple[Any, ...]]]:
        if not self.proxied and not question.explained:
            return _rows(connection, question)
        with connection.transaction(force_rollback=bool(question.explained)):
            if self.proxied:  # the next one may be another session's: what is told holds for this one
                told = {"milliseconds": int(self._seconds * 1000)}
                _rows(connection, _Question("transaction_belt", told, None))
            return _rows(connection, question)

    def _identify(self, connection: Connection) -> None:
        """Refuses another server behind the same name, and a role that could change things."""
        _, rows = self._answer(connection, _Question("identity", None, None))
        expected, (system_identifier, dbname, powers) = self._settings.system_identifier, rows[0][:3]
        if expected is not None and str(system_identifier) != expected:
            raise WrongServer(
                f"this is server {system_identifier}, the settings expect {expected}",
                on=self.address,
                hint="was it restored or failed over? If that is right, change system_identifier in the settings",
            )
        if dbname != self._settings.dbname:
            raise WrongServer(f"we are in database {dbname!r}", on=self.address, hint="dbname in the settings")
        if powers:
            raise AccessDenied(
                f"{self._settings.user} could change things ({powers}); questions are asked as a role that cannot",
                on=self.address,
                hint="a role with pg_monitor alone: CREATE ROLE xai_monitor LOGIN IN ROLE pg_monitor",
            )


class _Attempt:
    """One question's connection, which can be cut from outside while another thread waits on it."""

    def __init__(self, connection: Connection | None) -> None:
        self.connection = None if connection is None or connection.closed else connection
        self.given_up = False
        self._turn = threading.Lock()

    def took(self, connection: Connection) -> None:
        """Notes a fresh connection; one that comes too late is closed."""
        with self._turn:
            self.connection = connection
        if self.given_up:
            raise psycopg.OperationalError("nobody waits any more")

    def cut(self) -> None:
        """Ends whatever the connection waits for, at the socket: a stopped backend answers no cancel request."""
        with self._turn:
            self.given_up = True
            if self.connection is not None and not self.connection.closed:
                with suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection; by the thread that used it."""
        with self._turn:
            if self.connection is not None:
                self.connection.close()


def _rows(connection: Connection, question: _Question) -> tuple[list[str], list[tuple[Any, ...]]]:
    text = SQL(statement(question.name, connection.info.server_version // 10000))
    percent = "%" if question.parameters is None else "%%"  # psycopg reads it as the start of a parameter
    names = {each: [part.replace("%", percent) for part in told] for each, told in (question.identifiers or {}).items()}
    if any("\0" in part for told in names.values() for part in told):
        raise InputError("a name with a NUL in it would be cut there, and be another name")
    quoted: dict[str, Composable] = {each: Identifier(*told) for each, told in names.items()}
    if question.explained:  # in the one place where a person's own SQL is sent
        quoted["statement"] = SQL(question.explained)  # pyright: ignore
    with connection.cursor() as cursor:
        # asked for in binary, it goes by the extended protocol, which takes one statement: `SELECT 1; DROP` is refused
        cursor.execute(
            text.format(**quoted) if quoted else text, question.parameters, binary=bool(question.explained) or None
        )
        return [column.name for column in cursor.description or ()], cursor.fetchall()
