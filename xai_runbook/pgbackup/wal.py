"""Positions in the write-ahead log: LSNs as numbers, and the names of WAL segments."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xai_runbook.errors import InputError

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_NAME = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.(gz|zst|lz4|xz|bz2))?")


def parse_lsn(text: str) -> int:
    """Return the LSN as a number of bytes since the log began.

    >>> parse_lsn("1/0"), parse_lsn("0/312AC30")
    (4294967296, 51555376)
    """
    match = _LSN.fullmatch(text)
    if match is None:
        raise InputError(f"invalid LSN {text!r:.40}", hint="expected an LSN such as 0/312AC30")
    return (int(match[1], 16) << 32) + int(match[2], 16)


def format_lsn(position: int) -> str:
    """Return the position as PostgreSQL writes an LSN.

    >>> format_lsn(51555376)
    '0/312AC30'
    """
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


@dataclass(frozen=True, order=True)
class Segment:
    """One WAL segment of `size` bytes, by timeline and number."""

    timeline: int
    number: int
    size: int

    @classmethod
    def from_name(cls, name: str, size: int) -> Segment | None:
        """Return the segment of that file name, which may end like a compressed file; None for other names."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(int(match[1], 16), int(match[2], 16) * (2**32 // size) + int(match[3], 16), size)

    @classmethod
    def containing(cls, timeline: int, position: int, size: int) -> Segment:
        """Return the segment that contains that position."""
        return cls(timeline, position // size, size)

    @classmethod
    def names_between(cls, timeline: int, start: str, stop: str, size: int) -> list[str]:
        """Return the names of the segments from one LSN to the other."""
        first = cls.containing(timeline, parse_lsn(start), size).number
        last = cls.containing(timeline, max(parse_lsn(start), parse_lsn(stop) - 1), size).number
        return [cls(timeline, number, size).name for number in range(first, last + 1)]

    @property
    def name(self) -> str:
        """Return the name of its file.

        >>> Segment.containing(1, parse_lsn("0/312AC30"), 4 * 2**20).name
        '00000001000000000000000C'
        """
        log, position = divmod(self.number, 2**32 // self.size)
        return f"{self.timeline:08X}{log:08X}{position:08X}"

    @property
    def end(self) -> int:
        """Return the first position after it."""
        return (self.number + 1) * self.size
