"""The database handle without a PostgreSQL server: other services and silence are recognized in time."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.bad_server import raw, serving
from tests.support.pace import stretched
from xai_runbook.clients.postgres.reader import Database
from xai_runbook.errors import CannotAsk, TimedOut, Unreachable, WrongServer
from xai_runbook.operations import reachability
from xai_runbook.settings.database import DatabaseSettings
from xai_runbook.sql import statement


def first(peer: socket.socket) -> bytes:
    return peer.recv(65536)


def failure(port: int, **more: object) -> CannotAsk:
    settings = {"host": "127.0.0.1", "port": port, "sslmode": "disable", "timeout": "500ms"} | more
    handle = Database(DatabaseSettings.model_validate(settings))
    started = time.monotonic()
    with pytest.raises(CannotAsk) as caught:
        handle.frame("identity")
    assert time.monotonic() - started < stretched(5)
    assert caught.value.hint
    return caught.value


def test_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert type(failure(listener.getsockname()[1])) is TimedOut
        assert type(failure(listener.getsockname()[1], sslmode="require")) is TimedOut


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_another_protocol(reply: bytes) -> None:
    with serving(raw(reply), read=first) as served:
        assert type(failure(served.port)) is WrongServer


def test_hangs_up() -> None:
    with serving(raw(b""), read=first) as served:
        assert type(failure(served.port)) is Unreachable


def test_a_wrong_server_is_unknown_and_not_down() -> None:
    with serving(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), read=first) as served:
        settings = DatabaseSettings.model_validate({"host": "127.0.0.1", "port": served.port, "sslmode": "disable"})
        (row,) = reachability.database(Database(settings)).to_dict("records")
    assert row["answers"] != row["answers"]
    assert row["error"] == "this is not a PostgreSQL server"


def test_no_such_statement() -> None:
    with pytest.raises(KeyError):
        statement("no_such_query", 15)
