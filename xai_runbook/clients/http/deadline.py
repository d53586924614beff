"""A deadline enforced from outside the call that may hang, and calls made side by side that Ctrl-C ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from xai_runbook.errors import TimedOut

T = TypeVar("T")


GRACE_SECONDS = 0.9
"""How much longer than the server's own timeout is waited here, so that every answer comes within one second of it."""


def within(seconds: float, ask: Callable[[], T], *, on: str, give_up: Callable[[], object] | None = None) -> T:
    """What `ask()` returns, if it does so within `seconds`; its exceptions pass through.

    A socket's timeout is one read's, and a server's statement_timeout needs a server that runs: neither ends a call to
    a stopped process or a server that drips. So the call has a thread of its own, and whoever waits does not wait
    longer. `give_up` should make the call end (shut its socket down); the thread dies with the process otherwise.

    Errors: TimedOut.
    """
    outcome: list[tuple[bool, object]] = []

    def run() -> None:
        try:
            outcome.append((True, ask()))
        except BaseException as error:  # handed to the one who waits, whatever it is
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True, name=f"ask {on}")
    thread.start()
    late = True
    try:
        thread.join(seconds)
        late = not outcome  # told now: giving up makes the call end, with an error that says nothing
    finally:
        # also when Ctrl-C ends the wait: nothing of ours goes on asking
        if late and give_up is not None:
            with suppress(Exception):
                give_up()
    if late:
        raise TimedOut(f"no whole answer within {seconds:g} s", on=on, hint="is it overloaded, stopped or cut off?")
    answered, value = outcome[0]
    if answered:
        return value  # type: ignore[return-value]
    assert isinstance(value, BaseException)
    raise value


def side_by_side(asks: Sequence[Callable[[], T]]) -> list[T]:
    """What each of `asks` returns, all asked at once, in their order; the first one's exception passes through.

    A thread pool would wait for its threads on Ctrl-C and again at exit; these die with the process.
    """
    outcomes: dict[int, tuple[bool, object]] = {}

    def run(place: int, ask: Callable[[], T]) -> None:
        try:
            outcomes[place] = (True, ask())
        except BaseException as error:  # handed to the one who waits, whatever it is
            outcomes[place] = (False, error)

    threads = [threading.Thread(target=run, args=(place, ask), daemon=True) for place, ask in enumerate(asks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told: list[T] = []
    for place in range(len(asks)):
        answered, value = outcomes[place]
        if not answered:
            assert isinstance(value, BaseException)
            raise value
        told.append(value)  # type: ignore[arg-type]
    return told
