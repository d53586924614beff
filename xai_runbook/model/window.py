"""Prometheus durations, and time windows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from xai_runbook.errors import InputError

_UNIT_SECONDS = {"y": 31_536_000.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(  # limited digits: a longer duration is a typing error
    r"(?:(\d{1,12})y)?(?:(\d{1,12})w)?(?:(\d{1,12})d)?(?:(\d{1,12})h)?(?:(\d{1,12})m(?!s))?(?:(\d{1,12})s)?"
    r"(?:(\d{1,15})ms)?",
    flags=re.ASCII,
)


def duration_seconds(text: str) -> float:
    """Return the seconds of a Prometheus duration such as "5m", "1h30m" or "0s".

    >>> duration_seconds("1h30m")
    5400.0
    >>> duration_seconds("500ms")
    0.5

    Errors: InputError if the text is not a duration. Source: Prometheus docs, Querying basics, Time durations.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or not any(match.groups()):
        raise InputError(f"{text!r} is not a duration", hint='a Prometheus duration such as "30s", "5m" or "1h30m"')
    return sum(int(n) * unit for n, unit in zip(match.groups(), _UNIT_SECONDS.values(), strict=True) if n)


def duration_text(seconds: float) -> str:
    """Return the shortest Prometheus duration for a number of seconds, to the millisecond.

    >>> duration_text(5400), duration_text(0.5), duration_text(0)
    ('1h30m', '500ms', '0s')
    """
    left, text = round(seconds * 1000), ""
    for unit in ("d", "h", "m", "s", "ms"):
        size = round(_UNIT_SECONDS[unit] * 1000)
        if left >= size:
            text, left = f"{text}{left // size}{unit}", left % size
    return text or "0s"


@dataclass(frozen=True)
class Window:
    """A time window from `start` to `end`, both aware and in UTC; `start` is earlier."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            time = getattr(self, name)
            if time.tzinfo is None:
                raise InputError(f"the window's {name} {time} has no time zone", hint="2026-01-31T10:00:00Z")
            try:
                object.__setattr__(self, name, time.astimezone(UTC))
            except OverflowError:
                raise InputError(f"the window's {name} {time} is outside the calendar") from None
        if self.end <= self.start:
            raise InputError(f"the window ends ({self.end}) before it starts ({self.start})", hint="swap the two")

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end - self.start).total_seconds()

    @classmethod
    def parse(cls, text: str, now: datetime | None = None) -> Window:
        """Return the window that `text` describes: "6h" until now, or two ISO 8601 times "START/END".

        >>> Window.parse("2026-01-31T10:00:00Z/2026-01-31T11:00:00+00:00").seconds
        3600.0

        Errors: InputError, also for a time without a zone.
        """
        if "/" in text:
            first, _, last = text.partition("/")
            return cls(_parse_time(first), _parse_time(last))
        seconds = duration_seconds(text)
        if not 0 < seconds <= 10 * _UNIT_SECONDS["y"]:
            raise InputError(f"a window of {text!r} is empty or longer than 10y", hint='a duration such as "6h"')
        end = now or datetime.now(UTC)
        return cls(end - timedelta(seconds=seconds), end)

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M:%S} to {self.end:%Y-%m-%d %H:%M:%S} UTC"


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(f"{text!r} is not a time", hint="ISO 8601 with a zone: 2026-01-31T10:00:00Z") from None
