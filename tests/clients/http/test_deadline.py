"""Calls end at their deadline, and parallel calls return together."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.pace import stretched
from xai_runbook.clients.http.deadline import in_parallel, within
from xai_runbook.errors import TimedOut


def test_a_result_in_time_is_returned() -> None:
    assert within(5, lambda: 42, on="x") == 42


def test_an_exception_of_the_call_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, on="x")
    with pytest.raises(SystemExit):
        within(5, lambda: (_ for _ in ()).throw(SystemExit(1)), on="x")


def test_a_call_that_hangs_is_given_up() -> None:
    """Also if giving up makes the call raise another error."""
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


def test_an_error_of_give_up_is_ignored() -> None:
    ended = threading.Event()
    with pytest.raises(TimedOut):
        within(0.05, lambda: ended.wait(10), on="x", give_up=lambda: 1 / 0)
    ended.set()


def test_give_up_is_not_called_for_a_result_in_time() -> None:
    given_up: list[int] = []
    within(5, lambda: None, on="x", give_up=lambda: given_up.append(1))
    assert given_up == []


def test_parallel_calls_return_their_results_in_order() -> None:
    """They run at the same time."""
    together = threading.Barrier(3, timeout=10)

    def ask(place: int) -> int:
        together.wait()
        return place

    assert in_parallel([lambda place=place: ask(place) for place in range(3)]) == [0, 1, 2]
    assert in_parallel([]) == []


def test_parallel_calls_raise_the_first_exception() -> None:
    ended: list[int] = []
    with pytest.raises(ZeroDivisionError):
        in_parallel([lambda: ended.append(1), lambda: 1 / 0, lambda: [][1]])
    assert ended == [1]
