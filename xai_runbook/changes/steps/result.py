"""Result of one step, or the error that says that it is unknown."""

from __future__ import annotations

from dataclasses import dataclass

from xai_runbook.errors import XaiRunbookError


@dataclass(frozen=True)
class StepResult:
    """Result of one step. `had_effect=False` without `leftover`: it is certain that nothing was changed."""

    had_effect: bool
    summary: str
    notices: tuple[str, ...] = ()
    """The server's notices, such as tables that it skipped."""
    leftover: bool = False
    """The step failed, and `summary` says what it left behind."""


class OutcomeUnknown(XaiRunbookError):
    """The step was sent, and its effect is unknown. It is never sent again (P17)."""
