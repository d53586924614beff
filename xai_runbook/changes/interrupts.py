"""Ctrl-C during a change: recorded, and honoured where stopping leaves a known state."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class DeferredInterrupt:
    """A with block in which Ctrl-C only sets `received`.

    An exception in the middle of a write, or between an act and its record, would lose what is known. Everything in
    the block has a deadline, so the flag is read soon. Outside the main thread Ctrl-C does not arrive anyway.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: Any = None

    def __enter__(self) -> DeferredInterrupt:
        try:
            self._previous = signal.signal(signal.SIGINT, self._record)
        except ValueError:
            self._previous = None  # not the main thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = True
