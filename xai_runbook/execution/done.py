"""What one step came to: known, or not to be told."""

from __future__ import annotations

from dataclasses import dataclass

from xai_runbook.errors import XaiRunbookError


@dataclass(frozen=True)
class Done:
    """What one step came to: `had_effect` False is known to have changed nothing that lasts."""

    had_effect: bool
    words: str
    notices: tuple[str, ...] = ()
    """What the server remarked beside it, such as tables that it skipped."""


class Ambiguous(XaiRunbookError):
    """The step was sent off, and what it did cannot be told. It is never sent again (P17)."""
