"""Signals during a change: recorded, and honoured where stopping leaves a known state."""

from __future__ import annotations

import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any


class DeferredInterrupt:
    """A with block in which Ctrl-C and SIGTERM only set `received`, and SIGHUP does nothing.

    An exception in the middle of a write, or between an act and its record, would lose what is known. Everything in
    the block has a deadline, so the flag is read soon. A terminal that is closed (SIGHUP), such as a dropped ssh,
    does not stop a change: it runs to its end, and the journal has its outcome. Outside the main thread signals do
    not arrive anyway.
    """

    def __init__(self) -> None:
        self.received = ""
        """What interrupts, for messages; empty until then."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> DeferredInterrupt:
        with suppress(ValueError):  # not the main thread
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        # SIGHUP too has a handler and is not ignored: ignoring it would be inherited by the programs of steps
        if number != signal.SIGHUP:
            self.received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
