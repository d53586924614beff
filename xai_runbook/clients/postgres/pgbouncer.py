"""PgBouncer's console, asked what its pools do. It speaks PostgreSQL's protocol and knows SHOW, and nothing of SQL."""

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

Shown = Literal["pools", "databases", "version"]
# the whole of what is ever sent to it; PAUSE, KILL and SHUTDOWN are not among it, and its stats users may not send them
_STATEMENTS: dict[Shown, bytes] = {"pools": b"SHOW POOLS", "databases": b"SHOW DATABASES", "version": b"SHOW VERSION"}


class Pooler:
    """A handle that asks SHOW and nothing else, each time by a connection of its own: the console counts none."""

    def __init__(self, settings: PoolerSettings, *, environment: str = "", production: bool = False) -> None:
        self.environment, self.production = environment, production
        self._settings = settings
        self._seconds = duration_seconds(settings.timeout)
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def address(self) -> str:
        """Where it is, as messages name it; never with a password."""
        where = self._settings
        return f"{where.user}@{where.host}:{where.port}/{where.dbname}"

    def identity(self) -> dict[str, str]:
        """Where it is."""
        return {"address": self.address}

    def show(self, what: Shown) -> DataFrame:
        """The rows of `SHOW ...`, a column each as this version names it.

        Errors: Unreachable, TimedOut, AccessDenied, WrongServer, BadAnswer, SettingsError.
        """
        try:
            columns, rows = within(
                self._seconds + GRACE_SECONDS, lambda: self._ask(what), on=self.address, give_up=self._cut
            )
        except psycopg.Error as error:
            raise translated(error, self.address) from None
        if not rows:
            raise BadAnswer(f"SHOW {what.upper()} answered nothing", on=self.address, hint="is it PgBouncer's console?")
        return DataFrame.from_records(rows, columns=columns)

    def _ask(self, what: Shown) -> tuple[list[str], list[tuple[Any, ...]]]:
        where = self._settings
        with psycopg.connect(
            "",
            host=where.host,
            port=where.port,
            dbname=where.dbname,
            user=where.user,
            password=where.password.reveal() if where.password else None,
            sslmode=where.sslmode,
            sslrootcert=where.sslrootcert,
            connect_timeout=max(2, int(self._seconds)),
            application_name="xai-runbook",
            autocommit=True,
        ) as connection:
            self._connection = connection
            # without parameters psycopg sends it by the simple protocol, which is the only one that the console knows
            cursor = connection.execute(_STATEMENTS[what])
            return [column.name for column in cursor.description or ()], cursor.fetchall()

    def _cut(self) -> None:
        """Ends the wait at the socket."""
        import os
        import socket

        if self._connection is not None and not self._connection.closed:
            with socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)
