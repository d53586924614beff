"""PostgreSQL, as a role that may only read. One query a file in `sql/`; one connection a handle."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from pandas import DataFrame
from psycopg import errors
from psycopg.sql import SQL, Identifier

from xai_runbook.clients.deadline import within
from xai_runbook.errors import (
    AccessDenied,
    BadAnswer,
    Damaged,
    TimedOut,
    Unreachable,
    WrongServer,
    XaiRunbookError,
    inert,
)
from xai_runbook.sql import statement
from xai_runbook.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook import settings

Connection = psycopg.Connection[tuple[Any, ...]]
Names = Mapping[str, tuple[str, ...]]


def identified(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The facts of `sql/identity.sql` that tell one server and database from all others."""
    (row,) = rows
    return {key: str(row[key]) for key in ("system_identifier", "server_address", "server_port", "database")}


@dataclass(frozen=True)
class _Question:
    name: str
    parameters: Mapping[str, object] | None
    identifiers: Names | None


class Database:
    """A read-only handle on one database: who we are, and how long we may take, is told to the server on connecting.

    `SET default_transaction_read_only` is a seat belt; the wall is that the role owns nothing and may write nothing.
    """

    def __init__(self, settings: settings.Database, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self._connection: Connection | None = None
        self._settings = settings
        self._seconds = duration_seconds(settings.timeout)
        self._one_at_a_time = threading.Lock()

    @property
    def dbname(self) -> str:
        """The database's name."""
        return self._settings.dbname

    @property
    def expected(self) -> settings.Database:
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

    def identity(self) -> dict[str, str]:
        """Which server this is, measured: its identifier, which a restored snapshot keeps, and where it listens."""
        return identified(self.rows("identity"))

    def close(self) -> None:
        """Ends the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    __del__ = close  # nobody has to remember: a notebook's handle ends with the notebook

    def _bounded(self, question: _Question) -> tuple[list[str], list[tuple[Any, ...]]]:
        # the wait for another thread's question counts too: two questions may take twice the time, not for ever
        if not self._one_at_a_time.acquire(timeout=2 * self._seconds):
            raise TimedOut("other questions still occupy the connection", on=self.address, hint="ask again")
        attempt = _Attempt(self._connection)
        try:
            # the server has its own shorter statement_timeout; this is for a server that does not keep it
            answer = within(
                self._seconds + 1, lambda: self._ask(attempt, question), on=self.address, give_up=attempt.cut
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
                    return _rows(idle, question)
                except psycopg.OperationalError:
                    if not idle.closed or attempt.given_up:  # refused, not lost
                        raise
            return _rows(self._open(attempt), question)
        except BaseException:
            attempt.close()
            raise

    def _open(self, attempt: _Attempt) -> Connection:
        where, milliseconds = self._settings, int(self._seconds * 1000)
        connection = psycopg.connect(
            "",
            **({"service": where.service} if where.service else {"host": where.host, "port": where.port}),
            dbname=where.dbname,
            user=where.user,
            password=where.password.reveal() if where.password else None,
            sslmode=where.sslmode,
            sslrootcert=where.sslrootcert,
            connect_timeout=max(2, int(self._seconds)),
            application_name="xai-runbook",
            autocommit=True,
            options=(
                f"-c default_transaction_read_only=on -c statement_timeout={milliseconds} -c lock_timeout=1000 "
                f"-c idle_in_transaction_session_timeout={milliseconds} -c search_path=pg_catalog -c TimeZone=UTC"
            ),
        )
        attempt.took(connection)
        self._identify(connection)
        return connection

    def _identify(self, connection: Connection) -> None:
        """Refuses another server behind the same name, and a role that could change things."""
        row = connection.execute(statement("identity", connection.info.server_version // 10000)).fetchone()
        assert row is not None
        expected, (system_identifier, dbname, powers) = self._settings.system_identifier, row[:3]
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
    quoted = {name: Identifier(*parts) for name, parts in (question.identifiers or {}).items()}
    with connection.cursor() as cursor:
        cursor.execute(text.format(**quoted) if quoted else text, question.parameters)
        return [column.name for column in cursor.description or ()], cursor.fetchall()


def translated(error: psycopg.Error, address: str) -> XaiRunbookError:
    """Ours, from a template: libpq's own texts can echo connection strings, so only what the server said is shown."""
    state, said = error.sqlstate, inert(error.diag.message_primary or "", 300)
    if state is None:
        text = re.sub(r"'[^']*'|\"[^\"]*\"", "", str(error)).lower()  # without the names of hosts and roles
        if "password" in text and ("no password" in text or "authentication failed" in text):
            return AccessDenied("no or a wrong password", on=address, hint="the password's reference, or ~/.pgpass")
        if "does not exist" in text and "database" in text:
            return WrongServer("there is no such database", on=address, hint="dbname in the settings")
        if "role" in text and ("does not exist" in text or "not permitted" in text):
            return AccessDenied("there is no such role, or it may not log in", on=address, hint="user in the settings")
        if "too many" in text or "remaining connection slots" in text:
            return Unreachable("all its connection slots are taken", on=address, hint="03_database: who holds them")
        if "invalid response" in text or "expected authentication request" in text:
            return WrongServer("what answers is not PostgreSQL", on=address, hint="is the port another server's?")
        if "permission denied" in text or "no pg_hba.conf entry" in text or "does not exist" in text:
            return AccessDenied("the server lets us not in", on=address, hint="the role, pg_hba.conf and sslmode")
        if "definition of service" in text or "service file" in text:
            return Unreachable("libpq knows no such service", on=address, hint="~/.pg_service.conf or PGSERVICEFILE")
        if "certificate" in text or "ssl" in text:
            return WrongServer("no TLS as the settings want it", on=address, hint="sslmode and sslrootcert")
        if "could not translate" in text or "resolve" in text or "name or service" in text:
            return Unreachable("no such host", on=address, hint="host in the settings, and the resolver")
        if "refused" in text:
            return Unreachable("the connection was refused", on=address, hint="does it run, and on this port?")
        if "timeout" in text or "timed out" in text:
            return TimedOut("no answer in time", on=address, hint="is it overloaded, stopped or cut off?")
        return Unreachable("the connection failed or was lost", on=address, hint="the server's log, and the network")
    if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
        return Damaged(f"stored data is damaged: {said}", on=address, hint="03_database, Is what is stored whole?")
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return TimedOut(f"the server gave up: {said}", on=address, hint="is it overloaded, or a table locked?")
    if isinstance(
        error, errors.InsufficientPrivilege | errors.InvalidPassword | errors.InvalidAuthorizationSpecification
    ):
        return AccessDenied(f"the server refused: {said}", on=address, hint="GRANT pg_monitor to the role")
    if isinstance(error, errors.TooManyConnections | errors.CannotConnectNow | errors.AdminShutdown):
        return Unreachable(f"the server turned us away: {said}", on=address, hint="is it starting, stopping or full?")
    return BadAnswer(
        f"the server refused the statement: {said} ({state})", on=address, hint="is it a supported version?"
    )
