"""PostgreSQL as the role that changes are made with: one session for one apply, and no statement is sent twice."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from xai_runbook.clients.database import identified, statement, translated
from xai_runbook.clients.deadline import within
from xai_runbook.errors import NotConfigured
from xai_runbook.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook import settings


class Operator:
    """A session with the operator's role. It is never opened anew: what was lost with it must not be sent again."""

    def __init__(self, settings: settings.Database) -> None:
        if settings.operator is None:
            raise NotConfigured(
                "database.operator is not configured, so nothing can be changed",
                on="database.operator",
                hint="a table [database.operator] with user and password",
            )
        self._settings, self._role = settings, settings.operator
        self._seconds = duration_seconds(settings.timeout)
        self._connection: psycopg.Connection[Any] | None = None
        self._given_up = False

    @property
    def address(self) -> str:
        """Where it is; never with a password."""
        where = self._settings
        return f"{self._role.user}@{where.host}:{where.port}/{where.dbname}"

    def identity(self) -> dict[str, str]:
        """Which server this is, measured on this very session."""
        return identified(self.rows("identity"))

    def rows(self, name: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """The rows of `sql/NAME.sql`, sent once. Errors: Unreachable and TimedOut leave open what it did."""
        try:
            return within(self._seconds + 1, lambda: self._ask(name, parameters), on=self.address, give_up=self._cut)
        except psycopg.Error as error:
            raise translated(error, self.address) from None

    def close(self) -> None:
        """Ends the session, and with it the locks that it holds."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()

    def _ask(self, name: str, parameters: Mapping[str, object] | None) -> list[dict[str, Any]]:
        if self._connection is None:
            connection = self._open()
            if self._given_up:  # nobody waits any more: nothing may be sent that late
                connection.close()
                raise psycopg.OperationalError("nobody waits any more")
            self._connection = connection
        text = statement(name, self._connection.info.server_version // 10000)
        with self._connection.cursor() as cursor:
            cursor.execute(text, parameters)
            columns = [column.name for column in cursor.description or ()]
            return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

    def _open(self) -> psycopg.Connection[Any]:
        where, milliseconds = self._settings, int(self._seconds * 1000)
        connection = psycopg.connect(
            "",
            **({"service": where.service} if where.service else {"host": where.host, "port": where.port}),
            dbname=where.dbname,
            user=self._role.user,
            password=self._role.password.reveal() if self._role.password else None,
            sslmode=where.sslmode,
            sslrootcert=where.sslrootcert,
            connect_timeout=max(2, int(self._seconds)),
            application_name="xai-runbook apply",
            autocommit=True,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            options=(
                f"-c statement_timeout={milliseconds} -c lock_timeout=1000 -c search_path=pg_catalog -c TimeZone=UTC"
            ),
        )
        if connection.info.server_version >= 140000:
            # what runs on the server for us ends soon after us (P19)
            connection.execute("SET client_connection_check_interval = '1s'")
        return connection

    def _cut(self) -> None:
        """Ends the wait at the socket: a stopped server answers no cancel request."""
        self._given_up = True
        if self._connection is not None and not self._connection.closed:
            import os

            with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)
