"""The Prometheus client: against the real one where it answers rightly, against bad servers for bad answers."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.operations import prometheus_server as server
from xai_runbook.clients.prometheus import MOST_POINTS, Prometheus, quoted
from xai_runbook.errors import (
    AccessDenied,
    BadAnswer,
    CannotAsk,
    InputError,
    NoData,
    TimedOut,
    TooMuch,
    Unreachable,
    WrongServer,
)
from xai_runbook.window import Window

STRANGE = 'a "quoted" \\ path\nwith {braces} and ünïcode'


@pytest.fixture(scope="module")
def now() -> int:
    return int(time.time()) // 60 * 60


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, now: int) -> Iterator[str]:
    day = range(now - 90_000, now + 60, 60)
    past = server.history({
        'up_and_on{instance="a"}': {at: at - now for at in day},
        'gappy{instance="a"}': {at: 1.0 for at in day if not now - 7200 < at < now - 3600},
        'odd{instance="a"}': {at: ("NaN" if at % 120 else "+Inf") for at in day},
        'clash{at="x",value="y"}': {at: 1.0 for at in day},
        f"strange{{name={quoted(STRANGE)}}}": {at: 1.0 for at in day},
        **{f'many{{n="{n}"}}': {now: 1.0} for n in range(30)},
    })
    with server.running(tmp_path_factory.mktemp("prometheus"), past=past) as address:
        yield address


@pytest.fixture
def prometheus(url: str) -> Prometheus:
    return server.handle(url)


def window(now: int, first: int, last: int) -> Window:
    return Window(datetime.fromtimestamp(now + first, UTC), datetime.fromtimestamp(now + last, UTC))


def test_an_instant_answer_has_a_row_for_each_series(prometheus: Prometheus, now: int) -> None:
    frame = prometheus.instant("up_and_on", datetime.fromtimestamp(now - 600, UTC))
    assert frame.to_dict("records") == [
        {"__name__": "up_and_on", "instance": "a", "at": datetime.fromtimestamp(now - 600, UTC), "value": -600.0}
    ]
    assert prometheus.instant("1 / 0")["value"].tolist() == [math.inf]
    assert abs((prometheus.instant("time()")["at"].iloc[0] - datetime.now(UTC)).total_seconds()) < 5


def test_no_series_is_an_empty_frame_with_its_columns(prometheus: Prometheus, now: int) -> None:
    for frame in (prometheus.instant("nothing_of_that_name"),
                  prometheus.range("nothing_of_that_name", window(now, -600, 0))):
        assert frame.empty
        assert list(frame.columns) == ["at", "value"]
        assert str(frame["at"].dtype) == "datetime64[ms, UTC]"


def test_a_range_lies_on_the_multiples_of_its_step(prometheus: Prometheus, now: int) -> None:
    frame = prometheus.range("up_and_on", window(now, -3599, 1), "1m")
    assert len(frame) == 61
    assert frame["at"].iloc[0].timestamp() == now - 3600
    assert frame["value"].tolist() == [float(value) for value in range(-3600, 1, 60)]
    assert frame.attrs["step_seconds"] == 60
    assert frame.attrs["end"] == datetime.fromtimestamp(now, UTC)
    assert frame.attrs["warnings"] == []


def test_gaps_are_absent_rows_and_nan_and_infinity_are_values(prometheus: Prometheus, now: int) -> None:
    gappy = prometheus.range("gappy", window(now, -10_800, 0), "1m")
    quiet = gappy["at"].diff().max()
    assert timedelta(minutes=50) < quiet < timedelta(minutes=60)  # the lookback bridges five minutes of the hour
    assert not gappy["value"].isna().any()
    odd = prometheus.range("odd", window(now, -600, 0), "1m")
    assert len(odd) == 11
    assert {"nan" if math.isnan(value) else value for value in odd["value"]} == {"nan", math.inf}


def test_more_points_than_prometheus_answers_at_once_are_asked_for_in_pieces(prometheus: Prometheus, now: int) -> None:
    whole = prometheus.range("up_and_on", window(now, -86_400, 0), "1s")
    assert len(whole) == 86_401 > MOST_POINTS
    assert (whole["at"].diff().dropna() == timedelta(seconds=1)).all()
    assert whole["value"].iloc[-1] == 0
    edge = prometheus.range("up_and_on", window(now, -(MOST_POINTS - 1), 0), "1s")
    assert len(edge) == MOST_POINTS


def test_without_a_step_a_chart_gets_about_500_points(prometheus: Prometheus, now: int) -> None:
    assert 450 < len(prometheus.range("up_and_on", window(now, -86_400, 0))) <= 502
    assert len(prometheus.range("up_and_on", window(now, -600, 0))) == 41  # not finer than rules are judged
    with pytest.raises(InputError):
        prometheus.range("up_and_on", window(now, -600, 0), "0s")


def test_labels_that_clash_with_our_columns_are_renamed(prometheus: Prometheus, now: int) -> None:
    frame = prometheus.range("clash", window(now, -60, 0), "1m")
    assert set(frame.columns) == {"__name__", "label_at", "label_value", "at", "value"}
    assert frame["label_at"].tolist() == ["x", "x"]


def test_a_quoted_label_value_finds_exactly_its_series(prometheus: Prometheus) -> None:
    query = prometheus.promql('last_over_time(strange{name=${name}}[1h])', name=STRANGE)
    assert prometheus.instant(query)["name"].tolist() == [STRANGE]
    sly = prometheus.promql("strange{name=${name}}", name='x"} or up_and_on{instance!="')
    assert prometheus.instant(sly).empty


def test_too_many_series_are_refused(url: str, now: int) -> None:
    narrow = server.handle(url)
    narrow = Prometheus(narrow.access.model_copy(update={"most_series": 29}), narrow.settings)
    with pytest.raises(TooMuch, match="more than 29 series"):
        narrow.instant("last_over_time(many[1h])")
    with pytest.raises(TooMuch, match="more than 29 series"):
        narrow.range("many", window(now, -60, 60), "1m")


def test_a_window_before_what_is_kept_is_said_so(prometheus: Prometheus, now: int) -> None:
    month = 30 * 86_400
    with pytest.raises(NoData, match="before what Prometheus keeps"):
        prometheus.range("up_and_on", window(now, -month, -month + 3600))
    frame = prometheus.range("up_and_on", window(now, -month, 0))
    assert not frame.empty
    assert "older data is not kept" in frame.attrs["warnings"][0]


def test_promql_that_cannot_be_read_is_shown_with_the_place(prometheus: Prometheus) -> None:
    with pytest.raises(InputError, match=r"cannot read the query.*parse error"):
        prometheus.instant("sum by (")


def test_a_query_that_cannot_be_answered_is_no_empty_answer(prometheus: Prometheus) -> None:
    with pytest.raises(BadAnswer, match="execution"):
        prometheus.instant("up_and_on + on (nothing) group_left many{n='1'} + on () last_over_time(many[1h])")


def test_too_many_samples_is_too_much(tmp_path: Path, now: int) -> None:
    past = server.history({'up_and_on{instance="a"}': {at: 1.0 for at in range(now - 3600, now, 15)}})
    with server.running(tmp_path, past=past, flags=("--query.max-samples=50",)) as address:
        with pytest.raises(TooMuch, match="too many samples"):
            server.handle(address).range("up_and_on", window(now, -3600, 0), "15s")


def test_the_version_is_the_servers(prometheus: Prometheus) -> None:
    assert prometheus.version == prometheus.buildinfo()["version"]
    assert repr(prometheus) == f"Prometheus({prometheus.url})"


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
        ((200, "application/json", b'{"status":"ok"}'), "does not say its version"),
        ((200, "application/json", b'{"data":{"version":3}}'), "does not say its version"),
        ((200, "application/json", b"[]"), "does not say its version"),
        ((200, "application/json", b'{"data":{"vers'), "not whole JSON"),
    ],
)
def test_what_is_no_prometheus_is_named_with_both_ports(answer: tuple[int, str, bytes], says: str) -> None:
    with server.serving(lambda path: answer) as elsewhere:
        with pytest.raises(WrongServer, match=says) as raised:
            server.handle(elsewhere).instant("up")
    assert "9091" in raised.value.hint
    assert "9090" in raised.value.hint


def test_one_that_starts_is_not_ready_rather_than_wrong() -> None:
    with server.serving(lambda path: (503, "text/plain", b"Service Unavailable")) as starting:
        with pytest.raises(Unreachable, match="not ready"):
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
        (401, b"", AccessDenied, "may not ask"),
        (429, b"", AccessDenied, "too often"),
        (200, b"<html>oops", BadAnswer, "not what Prometheus answers"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"val', BadAnswer, "not what"),
        (200, b'{"status":"success","data":{"resultType":"tensor","result":[]}}', BadAnswer, "tensor"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":null}}', BadAnswer, "vector"),
        (200, b'{"status":"success","data":{"resultType":"string","result":[1,"text"]}}', BadAnswer, "not what"),
    ],
)
def test_each_failure_has_its_error_and_is_inert(status: int, body: bytes, error: type[Exception], says: str) -> None:
    def answer(path: str) -> tuple[int, str, bytes]:
        return good({"version": "2.42.0"}) if known(path) else (status, "application/json", body)

    with server.serving(answer) as broken:
        with pytest.raises(error, match=says) as raised:
            server.handle(broken).instant("up")
    assert "\x1b" not in str(raised.value)


def test_warnings_are_kept() -> None:
    body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []},
                       "warnings": ["part of the data is missing"], "infos": ["not a counter"]}).encode()
    with server.serving(lambda path: good({"version": "3.1.0"}) if known(path) else (200, "", body)) as warning:
        frame = server.handle(warning).instant("up")
    assert frame.attrs["warnings"] == ["part of the data is missing", "not a counter"]


def test_a_server_that_says_nothing_of_what_it_keeps_is_still_asked() -> None:
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
    assert time.monotonic() - started < 3


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
        assert time.monotonic() - started < 3
        thread.join(5)
        assert not thread.is_alive()


def test_an_instant_without_a_zone_is_refused(prometheus: Prometheus) -> None:
    with pytest.raises(InputError, match="no time zone"):
        prometheus.instant("up", datetime(2026, 1, 1))


@pytest.mark.parametrize("text", ["", "a", 'q"q', "back\\slash", "new\nline", "tab\t", "ü"])
def test_quoted_is_a_string_of_promql(prometheus: Prometheus, text: str) -> None:
    query = " ".join(["label_replace(vector(1), ", quoted("l"), ",", quoted(text.replace("$", "$$")), ',"","")'])
    frame = prometheus.instant(query)
    assert (frame["l"].tolist() if "l" in frame else [""]) == [text]
