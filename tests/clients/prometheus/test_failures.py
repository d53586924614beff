"""The Prometheus client with servers that fail, hang, answer slowly or are no Prometheus."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest

from tests.support import prometheus_server as server
from tests.support.pace import stretched
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.errors import (
    AccessDenied,
    BadAnswer,
    CannotAsk,
    InputError,
    TimedOut,
    TooMuch,
    Unreachable,
    WrongServer,
)
from xai_runbook.model.window import Window


def known(path: str) -> bool:
    return "buildinfo" in path


def good(data: Any) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps({"status": "success", "data": data}).encode()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, "text/plain", b"404 page not found"), "HTTP 404"),  # what a Pushgateway answers
        ((200, "text/html", b"<html><title>Log in</title>"), "HTML page"),
        ((302, "text/html", b""), "redirects"),
        ((200, "application/json", b'{"status":"ok"}'), "has no version"),
        ((200, "application/json", b'{"data":{"version":3}}'), "has no version"),
        ((200, "application/json", b"[]"), "has no version"),
        ((200, "application/json", b'{"data":{"vers'), "invalid JSON"),
    ],
)
def test_another_server_than_prometheus_is_reported_with_both_ports(answer: tuple[int, str, bytes], says: str) -> None:
    with server.serving(lambda path: answer) as elsewhere, pytest.raises(WrongServer, match=says) as raised:
        server.handle(elsewhere).instant("up")
    assert "9091" in raised.value.hint
    assert "9090" in raised.value.hint


def test_a_starting_prometheus_is_not_ready() -> None:
    with (
        server.serving(lambda path: (503, "text/plain", b"Service Unavailable")) as starting,
        pytest.raises(Unreachable, match="not ready"),
    ):
        server.handle(starting).instant("up")


def failure(kind: str, words: str) -> bytes:
    return json.dumps({"status": "error", "errorType": kind, "error": words}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (400, failure("bad_data", "1:3: parse error"), InputError, "parse error"),
        (422, failure("execution", "query processing would load too many samples into memory"), TooMuch, "too many"),
        (422, failure("execution", "multiple matches\x1b[31m"), BadAnswer, "multiple matches\ufffd"),
        (503, failure("timeout", "query timed out in expression evaluation"), TimedOut, "timed out"),
        (503, failure("canceled", "query was canceled"), TimedOut, "canceled"),
        (500, failure("internal", "out of range"), BadAnswer, "internal"),
        (500, b"<html>oops", BadAnswer, "HTTP 500"),
        (400, b"[]", BadAnswer, "HTTP 400"),
        (401, b"", AccessDenied, "access denied"),
        (429, b"", AccessDenied, "too many requests"),
        (200, b"<html>oops", BadAnswer, "not a valid Prometheus answer"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"val', BadAnswer, "not a"),
        (200, b'{"status":"success","data":{"resultType":"tensor","result":[]}}', BadAnswer, "tensor"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":null}}', BadAnswer, "vector"),
        (200, b'{"status":"success","data":{"resultType":"string","result":[1,"text"]}}', BadAnswer, "not a"),
    ],
)
def test_each_failure_has_its_error_and_is_inert(status: int, body: bytes, error: type[Exception], says: str) -> None:
    def answer(path: str) -> tuple[int, str, bytes]:
        return good({"version": "2.42.0"}) if known(path) else (status, "application/json", body)

    with server.serving(answer) as broken, pytest.raises(error, match=says) as raised:
        server.handle(broken).instant("up")
    assert "\x1b" not in str(raised.value)


def test_an_answer_without_alerts_is_refused() -> None:
    with server.serving(lambda path: good({"version": "2.42.0"} if known(path) else {"rules": []})) as odd:
        for ask in (server.handle(odd).alerts, server.handle(odd).alerting_rules):
            with pytest.raises(BadAnswer, match=r"the (alerts|groups) in its answer"):
                ask()


ALERT = {"labels": {"alertname": "Disk"}, "state": "firing", "value": "1", "activeAt": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "alert", [{}, "x", ALERT | {"state": "FIRING"}, ALERT | {"value": "much"}, ALERT | {"activeAt": "yesterday"}]
)
def test_a_malformed_alert_is_an_error(alert: object) -> None:
    data = {"version": "2.42.0", "alerts": [ALERT, alert], "groups": [alert]}
    with server.serving(lambda path: good(data)) as odd:
        for ask in (server.handle(odd).alerts, server.handle(odd).alerting_rules):
            with pytest.raises(BadAnswer, match=r"the (alerts|groups) in its answer"):
                ask()


def test_a_dozen_queries_wait_for_a_silent_server_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        handle = server.handle(f"http://127.0.0.1:{listening.getsockname()[1]}")
        hurried = Prometheus(handle.access.model_copy(update={"timeout": "1s"}), handle.settings)
        silences = []

        def ask() -> None:
            with pytest.raises(TimedOut) as raised:
                hurried.instant("up")
            silences.append(raised.value.what)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(silences) == 12
        assert time.monotonic() - started < stretched(3)


@pytest.mark.parametrize("seconds", [1000, 9e9])
def test_instants_outside_the_window_are_refused(seconds: float) -> None:
    """A grid from 1970 on would fill the memory."""
    data = {"version": "2.42.0", "resultType": "matrix", "result": [{"metric": {}, "values": [[seconds, "1"]]}]}
    with server.serving(lambda path: good(data)) as odd, pytest.raises(BadAnswer, match="outside the window"):
        server.handle(odd).range("up", Window.parse("1h"))


def test_warnings_are_kept() -> None:
    body = json.dumps(
        {
            "status": "success",
            "data": {"resultType": "vector", "result": []},
            "warnings": ["part of the data is missing"],
            "infos": ["not a counter"],
        }
    ).encode()
    with server.serving(lambda path: good({"version": "3.1.0"}) if known(path) else (200, "", body)) as warning:
        frame = server.handle(warning).instant("up")
    assert frame.attrs["warnings"] == ["part of the data is missing", "not a counter"]


def test_only_a_store_that_did_not_answer_makes_data_partial() -> None:
    body = json.dumps(
        {
            "status": "success",
            "data": {"resultType": "matrix", "result": []},
            "warnings": ["PromQL warning: quantile value should be between 0 and 1", "receive: store-2: no answer"],
            "infos": ["PromQL info: metric might not be a counter"],
        }
    ).encode()
    with server.serving(lambda path: good({"version": "3.1.0"}) if known(path) else (200, "", body)) as warning:
        frame = server.handle(warning).range("up", Window.parse("1h"))
    assert frame.attrs["partial"] == ["receive: store-2: no answer"] and len(frame.attrs["warnings"]) == 3


def test_a_server_of_unknown_retention_is_queried() -> None:
    asked = []

    def answer(path: str) -> tuple[int, str, bytes]:
        asked.append(path.partition("?")[0])
        if "runtimeinfo" in path:
            return 404, "text/plain", b""
        return good({"version": "2.24.0"} if known(path) else {"resultType": "matrix", "result": []})

    with server.serving(answer) as other:
        handle = server.handle(other)
        for _ in range(2):
            assert handle.range("up", Window.parse("1h")).empty
    assert asked.count("/api/v1/status/buildinfo") == 1
    assert asked.count("/api/v1/status/runtimeinfo") == 1


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts in the kernel, never answers
        handle = server.handle(f"http://127.0.0.1:{listening.getsockname()[1]}")
        hurried = Prometheus(handle.access.model_copy(update={"timeout": "300ms"}), handle.settings)
        started = time.monotonic()
        with pytest.raises(TimedOut):
            hurried.instant("up")
    assert time.monotonic() - started < stretched(3)


def test_a_server_that_drips_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while True:
                        peer.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    pass

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        handle = server.handle(f"http://127.0.0.1:{listening.getsockname()[1]}")
        hurried = Prometheus(handle.access.model_copy(update={"timeout": "400ms"}), handle.settings)
        started = time.monotonic()
        with pytest.raises(CannotAsk):
            hurried.instant("up")
        assert time.monotonic() - started < stretched(3)
        thread.join(5)
        assert not thread.is_alive()
