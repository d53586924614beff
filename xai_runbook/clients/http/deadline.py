"""Calls with a deadline, and parallel calls, both of which Ctrl-C interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from xai_runbook.errors import TimedOut

T = TypeVar("T")


GRACE_SECONDS = 0.9
"""The client's deadline is this much longer than the server's timeout, so that the server's own error arrives first."""


def within(seconds: float, ask: Callable[[], T], *, on: str, give_up: Callable[[], object] | None = None) -> T:
    """Return what `ask()` returns within `seconds`; raise its exceptions. Errors: TimedOut.

    A socket timeout limits a single read, and a statement_timeout needs a server that is running: neither limits a
    call to a stopped process or to a server that sends one byte at a time. So the call runs in a thread of its own.
    `give_up` should make the call end, for example by shutting its socket down; else the thread runs on until the
    process ends.
    """
    outcome: list[tuple[bool, object]] = []

    def run() -> None:
        try:
            outcome.append((True, ask()))
        except BaseException as error:  # raised again in the calling thread
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True, name=f"ask {on}")
    thread.start()
    late = True
    try:
        thread.join(seconds)
        late = not outcome  # read before give_up, which makes the call end with a misleading error
    finally:
        # also when Ctrl-C ends the wait, so that the call does not go on
        if late and give_up is not None:
            with suppress(Exception):
                give_up()
    if late:
        raise TimedOut(
            f"no whole answer within {seconds:g} s", on=on, hint="check whether it is overloaded, stopped or cut off"
        )
    answered, value = outcome[0]
    if answered:
        return value  # type: ignore[return-value]
    assert isinstance(value, BaseException)
    raise value


def in_parallel(asks: Sequence[Callable[[], T]]) -> list[T]:
    """Call all functions in parallel and return their results in order; raise the first exception in that order.

    A thread pool would wait for its threads on Ctrl-C and again at exit; daemon threads end with the process.
    """
    outcomes: dict[int, tuple[bool, object]] = {}

    def run(index: int, ask: Callable[[], T]) -> None:
        try:
            outcomes[index] = (True, ask())
        except BaseException as error:  # raised again in the calling thread
            outcomes[index] = (False, error)

    threads = [threading.Thread(target=run, args=(index, ask), daemon=True) for index, ask in enumerate(asks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results: list[T] = []
    for index in range(len(asks)):
        answered, value = outcomes[index]
        if not answered:
            assert isinstance(value, BaseException)
            raise value
        results.append(value)  # type: ignore[arg-type]
    return results
