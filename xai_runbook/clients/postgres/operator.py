"""PostgreSQL with the operator role: one session per apply, in which no statement is ever sent twice."""

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
from xai_runbook.clients.postgres.reader import connection_parameters, server_identity
from xai_runbook.clients.postgres.tunnel import tunnel_of
from xai_runbook.errors import AccessDenied, NotConfigured, TimedOut, Unreachable, XaiRunbookError, inert
from xai_runbook.model.secret import require_write_access
from xai_runbook.model.sql_text import compose
from xai_runbook.model.steps import Sql
from xai_runbook.model.window import duration_seconds
from xai_runbook.sql import statement

if TYPE_CHECKING:
    from xai_runbook.settings.database import DatabaseSettings


LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True)
class StatementAnswer:
    """The server's answer to one statement: rows or an error, and its notices."""

    rows: list[dict[str, Any]] | None
    """None for a statement that returns no rows, and after an error."""
    error: XaiRunbookError | None = None
    sqlstate: str = ""
    """The error's SQLSTATE."""
    notices: tuple[str, ...] = ()
    skipped: bool = False
    """True if SKIP_LOCKED skipped the table because another session has locked it."""
    sent: bool = True
    """False if the error occurred before the statement was sent."""


class Operator:
    """One session with the operator role. It never reconnects: a lost statement must not be sent again.

    Errors: NotConfigured; Refused unless a plan is being applied, even if the password is in libpq's own files.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        if settings.operator is None:
            raise NotConfigured(
                "database.operator is not configured, so nothing can be changed",
                on="database.operator",
                hint="add a table [database.operator] with user and password",
            )
        require_write_access("database.operator")
        self._settings, self._role, self._tunnel = settings, settings.operator, tunnel_of(settings)
        self._seconds = duration_seconds(settings.timeout)
        self._connection: psycopg.Connection[Any] | None = None
        self._abandoned = False

    @property
    def address(self) -> str:
        """Return USER@HOST:PORT/DBNAME for messages, without a password."""
        settings = self._settings
        return f"{self._role.user}@{settings.host}:{settings.port}/{settings.dbname}"

    @property
    def pid(self) -> int:
        """Return the session's backend pid, or 0 before it is opened."""
        return 0 if self._connection is None else self._connection.info.backend_pid

    def identity(self) -> dict[str, str]:
        """Return which server this is, as this session sees it."""
        return server_identity(self.rows("identity"))

    def rows(self, name: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Send `sql/NAME.sql` once and return its rows. After Unreachable or TimedOut its effect is unknown."""
        try:
            return within(self._seconds + 1, lambda: self._ask(name, parameters), on=self.address, give_up=self._cut)
        except psycopg.Error as error:
            raise translated(error, self.address) from None

    def execute(
        self, step: Sql, *, on_notice: Callable[[str], object], keep_running: Callable[[], bool]
    ) -> StatementAnswer:
        """Send the step's statement once and return the server's answer: rows or an error, and its notices.

        The server has `step.seconds` for it, and we wait slightly longer. Each notice is passed to `on_notice`.
        `keep_running` is polled ten times a second; once it returns False, the statement is cancelled and its end
        awaited. After Unreachable or TimedOut the statement's effect is unknown.
        """
        seconds = duration_seconds(step.seconds) if step.seconds else self._seconds
        queue: SimpleQueue[tuple[str | None, str]] = SimpleQueue()
        results: list[StatementAnswer | BaseException] = []
        sent = threading.Event()

        def run() -> None:
            try:
                results.append(self._execute(step, seconds, queue, sent))
            except BaseException as error:  # whatever it is, the waiting thread raises it
                results.append(error)

        thread = threading.Thread(target=run, daemon=True, name=f"execute on {self.address}")
        thread.start()
        notices: list[str] = []
        end, cancelled, skipped = time.monotonic() + seconds + 1, False, False

        def drain_notices() -> None:
            nonlocal skipped
            while not queue.empty():
                sqlstate, message = queue.get()
                notices.append(message)
                skipped = skipped or sqlstate == LOCK_NOT_AVAILABLE
                on_notice(message)

        while thread.is_alive():
            thread.join(0.1)
            drain_notices()
            if not cancelled and not keep_running():
                cancelled, end = True, min(end, time.monotonic() + self._seconds + 1)
                threading.Thread(target=self._cancel, daemon=True).start()
            if thread.is_alive() and time.monotonic() > end:
                self._cut()
                raise TimedOut(
                    f"no whole answer within {seconds:g} s",
                    on=self.address,
                    hint="check in 03_database whether the statement still runs",
                )
        drain_notices()
        (result,) = results
        if isinstance(result, StatementAnswer):
            return replace(result, notices=tuple(notices), skipped=skipped)
        if not isinstance(result, psycopg.Error):
            raise result
        error, sqlstate = translated(result, self.address), result.sqlstate
        if sqlstate is None or isinstance(error, Unreachable):
            raise error from None
        return StatementAnswer(rows=None, error=error, sqlstate=sqlstate, notices=tuple(notices), sent=sent.is_set())

    def close(self) -> None:
        """End the session, which releases its locks."""
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

    def _execute(
        self, step: Sql, seconds: float, notices: SimpleQueue[tuple[str | None, str]], sent: threading.Event
    ) -> StatementAnswer:
        connection = self._session()
        version = connection.info.server_version // 10000

        def enqueue(notice: Diagnostic) -> None:  # a Diagnostic is valid only while the handler runs
            message = f"{notice.severity_nonlocalized or notice.severity}: {notice.message_primary}"
            notices.put((notice.sqlstate, inert(message, 300)))

        connection.add_notice_handler(enqueue)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)",
                    [f"{int(seconds * 1000)}ms", f"{int(duration_seconds(step.lock_timeout) * 1000)}ms"],
                )
                if step.precondition:
                    cursor.execute(statement(step.precondition, version), step.parameters)
                    rows = _rows(cursor)
                    if len(rows) != 1 or rows[0].get("done") is not True:
                        return StatementAnswer(rows=[])
                if self._abandoned:
                    raise psycopg.OperationalError("the caller has given up")
                sent.set()
                cursor.execute(compose(step, version), step.parameters or None)
                return StatementAnswer(rows=None if cursor.description is None else _rows(cursor))
        finally:
            connection.remove_notice_handler(enqueue)

    def _session(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self._open()
            if self._abandoned:  # the caller has given up: nothing may be sent now
                connection.close()
                raise psycopg.OperationalError("the caller has given up")
            self._connection = connection
        return self._connection

    def _cancel(self) -> None:
        """Send a cancel request; the statement itself then ends with an error."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.cancel_safe(timeout=self._seconds)

    def _open(self) -> psycopg.Connection[Any]:
        milliseconds = int(self._seconds * 1000)
        connection = psycopg.connect(
            "",
            **connection_parameters(self._settings, self._tunnel, self._seconds),
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
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        if row is None or row[0] != connection.info.backend_pid:
            # a pooler reports a pid of its own; behind it, locks and settings may belong to another client's session
            connection.close()
            raise AccessDenied(
                "this is a proxy or pooler; changes need a session of the server itself",
                on=self.address,
                hint="set database.host to the server itself, and database.proxy to what stands in front of it",
            )
        if connection.info.server_version >= 140000:
            # so that a running statement ends soon after this process (P19)
            connection.execute("SET client_connection_check_interval = '1s'")
        return connection

    def _cut(self) -> None:
        """Shut the socket down: a stopped server does not answer a cancel request."""
        self._abandoned = True
        if self._connection is not None and not self._connection.closed:
            import os

            with socket.socket(fileno=os.dup(self._connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)


def _rows(cursor: psycopg.Cursor[Any]) -> list[dict[str, Any]]:
    columns = [column.name for column in cursor.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
