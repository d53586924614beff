"""Reachability of each part: down is an alert, an unexpected answer is unknown."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd
import pytest

from xai_runbook.clients.cache import Cache
from xai_runbook.clients.nodes import Nodes
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.environment import Environment
from xai_runbook.errors import AccessDenied, BadAnswer, TimedOut, Unreachable
from xai_runbook.model.findings import Limit, Status
from xai_runbook.operations import reachability
from xai_runbook.settings import loading, models

COLUMNS = ["target", "answers", "detail", "seconds", "error", "hint"]


@pytest.fixture(scope="module")
def limit() -> Limit:
    return loading.load("sandbox").limits.troubleshooting.node_reachable


def test_every_part_of_the_sandbox_answers(env: Environment) -> None:
    frames = [
        reachability.prometheus(env.prometheus), reachability.nodes(env.nodes),
        reachability.reference_nodes(env.nodes), reachability.database(env.database),
        reachability.cache(env.cache),
    ]  # fmt: skip
    replies = pd.concat(frames)
    assert list(replies.columns) == COLUMNS
    assert replies["answers"].tolist() == [1.0] * 7, replies
    assert (replies["error"] == "").all()
    assert replies["seconds"].between(0, 10).all()
    details = " ".join(replies["detail"])
    for word in ("Prometheus", "height", "PostgreSQL", "xai_monitor", "edis" if "Redis" in details else "alkey"):
        assert word in details


def frame(*rows: tuple[str, float, str]) -> pd.DataFrame:
    return pd.DataFrame([(target, answers, "", 0.1, error, "mend it" if error else "")
                         for target, answers, error in rows], columns=COLUMNS)  # fmt: skip


NAN = float("nan")


@pytest.mark.parametrize(
    ("rows", "status", "summary", "targets"),
    [
        ([("a", 1, "")], "ok", "a answers", ()),
        ([("a", 1, ""), ("b", 1, ""), ("c", 1, "")], "ok", "all 3 answer", ()),
        ([("a", 0, "it was refused")], "alert", "a does not answer: it was refused", ("a",)),
        (
            [("a", 1, ""), ("b", 0, "it was refused")],
            "alert",
            "1 of 2: b does not answer: it was refused",
            ("b",),
        ),
        (
            [("a", 0, "it was refused"), ("b", NAN, "we may not ask (HTTP 401)")],
            "alert",
            "1 of 2: a does not answer: it was refused; b cannot be checked: we may not ask (HTTP 401)",
            ("a",),
        ),
        (
            [("a", 1, ""), ("b", NAN, "it is HTML")],
            "unknown",
            "unknown, because b cannot be checked: it is HTML",
            ("b",),
        ),
        ([], "unknown", "unknown, because there is no target", ()),
    ],
)
def test_the_finding_for_each_answer(
    limit: Limit, rows: list[Any], status: str, summary: str, targets: tuple[str]
) -> None:
    finding = reachability.check_reachable(frame(*rows), limit)
    assert (finding.status, finding.summary, finding.targets) == (status, summary, targets)
    assert finding.name == "node_reachable"
    assert finding.hint == ("mend it" if status == "unknown" and rows else limit.hint)


def test_hostile_texts_are_made_inert(limit: Limit) -> None:
    finding = reachability.check_reachable(frame(("\x1b[2Ja", 0, "<script>\x1b]0;x\x07")), limit)
    assert "\x1b" not in str(finding)
    assert "<script>" not in finding._repr_mimebundle_()["text/html"]


@contextmanager
def speaking(reply: bytes | None) -> Iterator[int]:
    """Run a server that answers everything with `reply` (None: with nothing), and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peers: list[socket.socket] = []

        def run() -> None:
            try:
                while True:
                    peer, _ = listener.accept()
                    peers.append(peer)
                    while peer.recv(65536):
                        if reply is not None:
                            peer.sendall(reply)
            except OSError:
                pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for peer in peers:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
        thread.join(5)


def cache(port: int, **more: Any) -> Cache:
    return Cache(models.CacheSettings.model_validate({"host": "127.0.0.1", "port": port, "timeout": "500ms"} | more))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (None, TimedOut),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", (BadAnswer, Unreachable)),
        (b"+OK\r\n", BadAnswer),
        (b"-NOAUTH Authentication required.\r\n", AccessDenied),
        (b"-WRONGPASS invalid username-password pair\r\n", AccessDenied),
        (b"-NOPERM this user has no permissions\r\n", AccessDenied),
        (b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n", BadAnswer),
        (b"\xff\xfe\x00garbage\r\n", (BadAnswer, Unreachable)),
    ],
)
def test_another_kind_of_server_is_not_a_cache(
    reply: bytes | None, error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_PASSWORD", "hunter2")
    with speaking(reply) as port:
        handle = cache(port, password="env:CACHE_PASSWORD")
        with pytest.raises(error) as caught:
            handle.info()
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


def test_a_cache_that_refuses_connections_is_an_alert(limit: Limit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    finding = reachability.check_reachable(reachability.cache(cache(port)), limit)
    assert finding.status is Status.ALERT
    assert finding.summary == f"127.0.0.1:{port} does not answer: the connection failed: Connection refused"


def test_a_pushgateway_is_not_a_prometheus_that_is_down(limit: Limit) -> None:
    settings = loading.load("sandbox")
    with speaking(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as port:
        access = models.PrometheusSettings(url=f"http://127.0.0.1:{port}", timeout="2s")
        finding = reachability.check_reachable(
            reachability.prometheus(Prometheus(access, settings.promql_settings)), limit
        )
    assert finding.status is Status.UNKNOWN
    assert "no Prometheus answers here" in finding.summary
    assert "9090" in finding.hint


def test_a_node_that_is_down_and_one_that_rejects_us(limit: Limit) -> None:
    with speaking(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as port:
        node = [
            {"name": "busy", "url": f"http://127.0.0.1:{port}", "timeout": "2s"},
            {"name": "gone", "url": "http://127.0.0.1:1", "timeout": "2s"},
        ]
        replies = reachability.nodes(Nodes(models.NodesSettings.model_validate({"node": node})))
    assert replies["answers"].isna().tolist() == [True, False]
    finding = reachability.check_reachable(replies, limit)
    assert finding.targets == ("gone",)
    assert "gone does not answer: the connection was refused" in finding.summary
    assert "busy cannot be checked: too many requests (HTTP 429)" in finding.summary
