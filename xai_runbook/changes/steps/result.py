"""What one step came to: known, or not to be told."""

from __future__ import annotations

from dataclasses import dataclass

from xai_runbook.errors import XaiRunbookError


@dataclass(frozen=True)
class StepResult:
    """Result of one step. `had_effect=False` without `left`: it is certain that nothing was changed."""

    had_effect: bool
    summary: str
    notices: tuple[str, ...] = ()
    """What the server remarked beside it, such as tables that it skipped."""
    leftover: bool = False
    """It failed, and `summary` says what of it stays."""


class OutcomeUnknown(XaiRunbookError):
    """The step was sent off, and what it did cannot be told. It is never sent again (P17)."""
