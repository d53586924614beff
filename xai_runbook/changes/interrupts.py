"""Ctrl-C while something changes: noted, and looked at where stopping leaves a known state."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """For the time of a with block Ctrl-C only sets `pressed`; an exception in the middle of a write, or between an
    act and its record, would lose what is known. Everything in the block has a deadline, so it is heard soon.

    In another thread than the main one Ctrl-C does not arrive anyway.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        try:
            self._before = signal.signal(signal.SIGINT, self._note)
        except ValueError:
            self._before = None  # not the main thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
