"""Text tables that fit the terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

_GAP = 2
_NARROWEST_TEXT = 16
_NARROWEST = 8


def terminal_width() -> int | None:
    """Return the width of the terminal in columns; None if stdout is not a terminal, where nothing is wrapped."""
    if sys.stdout is None or not sys.stdout.isatty():  # None: closed by the caller
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def table_rows(
    rows: Sequence[Sequence[str]], *, width: int | None, indent: int = 0, right: Collection[int] = ()
) -> list[str]:
    """Return each row of a table as text, with aligned columns.

    If a row would be wider than `width`, the widest columns are narrowed and their cells wrapped, so that a row may
    have several lines. `right` are the indexes of the columns that are aligned to the right.
    """
    if not rows:
        return []
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    if width is not None:
        texts = [index for index, column in enumerate(columns) if any(" " in cell for cell in column)]
        _narrow(widths, texts, max(width - indent - _GAP * (len(widths) - 1), 0))
    return [_row(row, widths, indent, right) for row in rows]


def print_table(rows: Sequence[Sequence[str]], *, indent: int = 0, right: Collection[int] = ()) -> None:
    """Print a table; see `table_rows`."""
    for row in table_rows(rows, width=terminal_width(), indent=indent, right=right):
        print(row)


def wrapped(text: str, *, width: int | None, indent: int) -> str:
    """Return indented text, wrapped at `width`."""
    return " " * indent + f"\n{' ' * indent}".join(_lines(text, None if width is None else max(width - indent, 1)))


def _narrow(widths: list[int], texts: Sequence[int], room: int) -> None:
    """Narrow columns until they fit: those with several words first, because a broken name is hard to read."""
    while sum(widths) > room:
        columns = [index for index in texts if widths[index] > _NARROWEST_TEXT]
        columns = columns or [index for index, width in enumerate(widths) if width > _NARROWEST]
        if not columns:
            return
        widths[max(columns, key=widths.__getitem__)] -= 1


def _row(row: Sequence[str], widths: Sequence[int], indent: int, right: Collection[int]) -> str:
    cells = [_lines(text, width) for text, width in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        aligned = [
            text.rjust(width) if index in right else text.ljust(width)
            for index, (text, width) in enumerate(zip(texts, widths, strict=True))
        ]
        lines.append((" " * indent + (" " * _GAP).join(aligned)).rstrip())
    return "\n".join(lines)


def _lines(text: str, width: int | None) -> list[str]:
    if width is None or len(text) <= width:
        return [text]
    from textwrap import wrap

    return wrap(text, max(width, 1), break_on_hyphens=False) or [""]
