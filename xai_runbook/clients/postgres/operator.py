"""PostgreSQL as the role that changes are made with: one session for one apply, and no statement is sent twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import Diagnostic

from xai_runbook.clients.http.deadline import within
from xai_runbook.clients.postgres.errors import translated
from xai_runbook.clients.postgres.reader import identified, place
from xai_runbook.clients.postgres.tunnel import tunnel_of
from xai_runbook.errors import AccessDenied, NotConfigured, TimedOut, Unreachable, XaiRunbookError, inert
from xai_runbook.model.secret import require_write_access
from xai_runbook.model.sql_text import written
from xai_runbook.model.steps import Sql
from xai_runbook.model.window import duration_seconds
from xai_runbook.sql import statement

if TYPE_CHECKING:
    from xai_runbook.settings.database import DatabaseSettings


LOCKED = "55P03"  # lock_not_available


@dataclass(frozen=True)
class StatementAnswer:
    """What the server said of one statement."""

    rows: list[dict[str, Any]] | None
    """None where it is a statement without rows, or ended with an error."""
    error: XaiRunbookError | None = None
    state: str = ""
    """The error's SQLSTATE."""
    notices: tuple[str, ...] = ()
    skipped: bool = False
    """It warned that it left out what another session has locked, as SKIP_LOCKED asks it to."""
    sent: bool = True
    """False where the error came before the statement was sent."""


class Operator:
    """A session with the operator's role. It is never opened anew: what was lost with it must not be sent again.

    Errors: NotConfigured; Refused unless a plan is being applied, also where libpq's own files hold the password.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        if settings.operator is None:
            raise NotConfigured(
                "database.operator is not configured, so nothing can be changed",
                on="database.operator",
                hint="a table [database.operator] with user and password",
            )
        require_write_access("database.operator")
        self._settings, self._role, self._tunnel = settings, settings.operator, tunnel_of(settings)
        self._seconds = duration_seconds(settings.timeout)
        self._connection: psycopg.Connection[Any] | None = None
        self._given_up = False

    @property
    def address(self) -> str:
        """Where it is; never with a password."""
        where = self._settings
        return f"{self._role.user}@{where.host}:{where.port}/{where.dbname}"

    @property
    def pid(self) -> int:
        """The server's number of this session; 0 before it was opened."""
        return 0 if self._connection is None else self._connection.info.backend_pid

    def identity(self) -> dict[str, str]:
        """Which server this is, measured on this very session."""
        return identified(self.rows("identity"))

    def rows(self, name: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """The rows of `sql/NAME.sql`, sent once. Errors: Unreachable and TimedOut leave open what it did."""
        try:
            return within(self._seconds + 1, lambda: self._ask(name, parameters), on=self.address, give_up=self._cut)
        except psycopg.Error as error:
            raise translated(error, self.address) from None

    def carry_out(self, step: Sql, *, heard: Callable[[str], object], go_on: Callable[[], bool]) -> StatementAnswer:
        """What the server said of the step's statement, sent once: rows or an error, and its notices.

        It has `step.seconds`, on the server and, a little longer, here. `heard` is told each notice; `go_on` is asked
        about ten times a second, and once it says no, the statement is cancelled and its end waited for.
        Errors: Unreachable and TimedOut leave open what it did.
        """
        seconds = duration_seconds(step.seconds) if step.seconds else self._seconds
        notices: SimpleQueue[tuple[str | None, str]] = SimpleQueue()
        came: list[StatementAnswer | BaseException] = []
        sent = threading.Event()

        def run() -> None:
            try:
                came.append(self._carried_out(step, seconds, notices, sent))
            except BaseException as error:  # handed to the one who waits, whatever it is
                came.append(error)

        thread = threading.Thread(target=run, daemon=True, name=f"carry out on {self.address}")
        thread.start()
        kept: list[str] = []
        end, cancelled, skipped = time.monotonic() + seconds + 1, False, False

        def hear() -> None:
            nonlocal skipped
            while not notices.empty():
                state, words = notices.get()
                kept.append(words)
                skipped = skipped or state == LOCKED
                heard(words)

        while thread.is_alive():
            thread.join(0.1)
            hear()
            if not cancelled and not go_on():
                cancelled, end = True, min(end, time.monotonic() + self._seconds + 1)
                threading.Thread(target=self._cancel, daemon=True).start()
            if thread.is_alive() and time.monotonic() > end:
                self._cut()
                raise TimedOut(
                    f"no whole answer within {seconds:g} s", on=self.address, hint="03_database: does it run?"
                )
        hear()
        (told,) = came
        if isinstance(told, StatementAnswer):
            return replace(told, notices=tuple(kept), skipped=skipped)
        if not isinstance(told, psycopg.Error):
            raise told
        error, state = translated(told, self.address), told.sqlstate
        if state is None or isinstance(error, Unreachable):
            raise error from None
        return StatementAnswer(rows=None, error=error, state=state, notices=tuple(kept), sent=sent.is_set())

    def close(self) -> None:
        """Ends the session, and with it the locks that it holds."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def _ask(self, name: str, parameters: Mapping[str, object] | None) -> list[dict[str, Any]]:
        connection = self._session()
        text = statement(name, connection.info.server_version // 10000)
        with connection.cursor() as cursor:
            cursor.execute(text, parameters)
            return _rows(cursor)

    def _carried_out(
        self, step: Sql, seconds: float, notices: SimpleQueue[tuple[str | None, str]], sent: threading.Event
    ) -> StatementAnswer:
        connection = self._session()
        version = connection.info.server_version // 10000

        def noticed(said: Diagnostic) -> None:  # it can be read only while the handler runs
            words = f"{said.severity_nonlocalized or said.severity}: {said.message_primary}"
            notices.put((said.sqlstate, inert(words, 300)))

        connection.add_notice_handler(noticed)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)",
                    [f"{int(seconds * 1000)}ms", f"{int(duration_seconds(step.lock_timeout) * 1000)}ms"],
                )
                if step.precondition:
                    cursor.execute(statement(step.precondition, version), step.parameters)
                    seen = _rows(cursor)
                    if len(seen) != 1 or seen[0].get("done") is not True:
                        return StatementAnswer(rows=[])
                if self._given_up:
                    raise psycopg.OperationalError("nobody waits any more")
                sent.set()
                cursor.execute(written(step, version), step.parameters or None)
                return StatementAnswer(rows=None if cursor.description is None else _rows(cursor))
        finally:
            connection.remove_notice_handler(noticed)

    def _session(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self._open()
            if self._given_up:  # nobody waits any more: nothing may be sent that late
                connection.close()
                raise psycopg.OperationalError("nobody waits any more")
            self._connection = connection
        return self._connection

    def _cancel(self) -> None:
        """Asks the server to end what it does for us; it answers the statement itself."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.cancel_safe(timeout=self._seconds)

    def _open(self) -> psycopg.Connection[Any]:
        where, milliseconds = self._settings, int(self._seconds * 1000)
        connection = psycopg.connect(
            "",
            **place(where, self._tunnel, self._seconds),
            user=self._role.user,
            password=self._role.password.reveal() if self._role.password else None,
            application_name="xai-runbook apply",
            autocommit=True,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            options=(
                f"-c statement_timeout={milliseconds} -c lock_timeout=1000 -c search_path=pg_catalog -c TimeZone=UTC"
            ),
        )
        told = connection.execute("SELECT pg_backend_pid()").fetchone()
        if told is None or told[0] != connection.info.backend_pid:
            # what a pooler tells as the session's number is its own: there, locks and settings may be another's
            connection.close()
            raise AccessDenied(
                "this is a proxy or pooler; changes are made in a session of the server itself",
                on=self.address,
                hint="database.host is the server's own, database.proxy what stands before it",
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


def _rows(cursor: psycopg.Cursor[Any]) -> list[dict[str, Any]]:
    columns = [column.name for column in cursor.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
