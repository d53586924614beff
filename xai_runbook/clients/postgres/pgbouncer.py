"""Read-only handle on PgBouncer's admin console, which speaks PostgreSQL's protocol and knows SHOW but no SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import psycopg
from pandas import DataFrame

from xai_runbook.clients.http.deadline import GRACE_SECONDS, within
from xai_runbook.clients.postgres.errors import translated
from xai_runbook.errors import BadAnswer
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook.settings.database import PoolerSettings

ShowCommand = Literal["pools", "databases", "version"]
# nothing else is ever sent; PAUSE, KILL and SHUTDOWN are refused to stats_users anyway
_STATEMENTS: dict[ShowCommand, bytes] = {
    "pools": b"SHOW POOLS",
    "databases": b"SHOW DATABASES",
    "version": b"SHOW VERSION",
}


class Pooler:
    """A handle that sends SHOW commands, each over a new connection; console connections take no pool slot."""

    def __init__(self, settings: PoolerSettings, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self._settings = settings
        self._seconds = duration_seconds(settings.timeout)
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def address(self) -> str:
        """Return USER@HOST:PORT/DBNAME for messages, without a password."""
        settings = self._settings
        return f"{settings.user}@{settings.host}:{settings.port}/{settings.dbname}"

    def identity(self) -> dict[str, str]:
        """Return the address, which is all the console knows of itself."""
        return {"address": self.address}

    def show(self, command: ShowCommand) -> DataFrame:
        """Return the rows of a SHOW command, with the column names of this PgBouncer version.

        Errors: Unreachable, TimedOut, AccessDenied, WrongServer, BadAnswer, SettingsError.
        """
        try:
            columns, rows = within(
                self._seconds + GRACE_SECONDS, lambda: self._query(command), on=self.address, give_up=self._cut
            )
        except psycopg.Error as error:
            raise translated(error, self.address) from None
        if not rows:
            raise BadAnswer(
                f"SHOW {command.upper()} returned no rows", on=self.address, hint="is it PgBouncer's console?"
            )
        return DataFrame.from_records(rows, columns=columns)

    def _query(self, command: ShowCommand) -> tuple[list[str], list[tuple[Any, ...]]]:
        settings = self._settings
        with psycopg.connect(
            "",
            host=settings.host,
            port=settings.port,
            dbname=settings.dbname,
            user=settings.user,
            password=settings.password.reveal() if settings.password else None,
            sslmode=settings.sslmode,
            sslrootcert=settings.sslrootcert,
            connect_timeout=max(2, int(self._seconds)),
            application_name="xai-runbook",
            autocommit=True,
        ) as connection:
            self._connection = connection
            # without parameters psycopg uses the simple query protocol, the only one that the console knows
            cursor = connection.execute(_STATEMENTS[command])
            return [column.name for column in cursor.description or ()], cursor.fetchall()

    def _cut(self) -> None:
        """Shut the socket down, which ends the wait."""
        import os
        import socket

        if self._connection is not None and not self._connection.closed:
            with socket.socket(fileno=os.dup(self._connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
