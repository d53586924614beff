"""What one step came to: known, or not to be told."""

from __future__ import annotations

from dataclasses import dataclass

from xai_runbook.errors import XaiRunbookError


@dataclass(frozen=True)
class Done:
    """Result of one step. `had_effect=False` without `left`: it is certain that nothing was changed."""

    had_effect: bool
    words: str
    notices: tuple[str, ...] = ()
    """What the server remarked beside it, such as tables that it skipped."""
    left: bool = False
    """It failed, and `words` tell what of it stays."""


class Ambiguous(XaiRunbookError):
    """The step was sent off, and what it did cannot be told. It is never sent again (P17)."""
