"""A call that hangs is left, not waited for."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.pace import stretched
from xai_runbook.clients.http.deadline import side_by_side, within
from xai_runbook.errors import TimedOut


def test_what_is_asked_in_time() -> None:
    assert within(5, lambda: 42, on="x") == 42


def test_its_own_error_passes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, on="x")
    with pytest.raises(SystemExit):
        within(5, lambda: (_ for _ in ()).throw(SystemExit(1)), on="x")


def test_a_call_that_hangs_is_given_up() -> None:
    """Also where giving up makes it end with an error of its own: it was late."""
    ended = threading.Event()

    def hang() -> None:
        ended.wait(10)
        raise OSError("the socket was shut")

    started = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        within(0.1, hang, on="the server", give_up=ended.set)
    assert time.monotonic() - started < stretched(5)
    assert caught.value.on == "the server"
    assert "0.1 s" in caught.value.what
    assert ended.is_set()


def test_giving_up_may_fail() -> None:
    ended = threading.Event()
    with pytest.raises(TimedOut):
        within(0.05, lambda: ended.wait(10), on="x", give_up=lambda: 1 / 0)
    ended.set()


def test_nothing_is_given_up_that_came_in_time() -> None:
    given_up: list[int] = []
    within(5, lambda: None, on="x", give_up=lambda: given_up.append(1))
    assert given_up == []


def test_side_by_side() -> None:
    """All at once and in their order."""
    together = threading.Barrier(3, timeout=10)

    def ask(place: int) -> int:
        together.wait()
        return place

    assert side_by_side([lambda place=place: ask(place) for place in range(3)]) == [0, 1, 2]
    assert side_by_side([]) == []


def test_side_by_side_hands_on_the_first_error() -> None:
    ended: list[int] = []
    with pytest.raises(ZeroDivisionError):
        side_by_side([lambda: ended.append(1), lambda: 1 / 0, lambda: [][1]])
    assert ended == [1]
