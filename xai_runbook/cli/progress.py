"""One line of progress on a terminal, which each call overwrites."""

from __future__ import annotations

import sys

_CLEAR_LINE = "\r\x1b[K"


def show_line(text: str, *, final: bool = False) -> None:
    """Overwrite the current line of stderr, cut at the terminal's width; with `final`, end the line."""
    from shutil import get_terminal_size

    from xai_runbook.errors import inert

    sys.stderr.write(f"{_CLEAR_LINE}{inert(text, max(get_terminal_size().columns - 2, 1))}{chr(10) * final}")
    sys.stderr.flush()


def clear_line() -> None:
    """Clear the current line of stderr."""
    sys.stderr.write(_CLEAR_LINE)
    sys.stderr.flush()
