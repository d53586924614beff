"""What running a notebook came to: the seam between the half that runs and the half that tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xai_runbook.model.findings import Finding

RunStatus = Literal["completed", "failed", "incomplete"]


@dataclass(frozen=True)
class Chart:
    """One picture that a question's cell showed; `png` is its checked bytes."""

    png: bytes
    alt: str


@dataclass(frozen=True)
class CellAnswer:
    """What one question came to: a finding, or the part that is not configured. There is one for every question."""

    name: str
    """The cell's id, which is the finding's name."""
    section: str
    finding: Finding | None
    """None only where the part is not configured; what could not be told is a finding of status unknown."""
    not_configured: str = ""
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class NotebookResult:
    """One notebook's run. Only `completed` may count as an answer to everything it asks."""

    name: str
    path: Path
    """The executed copy; it may be missing where nothing could be written."""
    status: RunStatus
    """`failed`: it ran to its end, and something in it went wrong that is no answer; `incomplete`: it did not."""
    seconds: float
    error: str = ""
    """One line about the first thing that went wrong."""
    answers: tuple[CellAnswer, ...] = ()


@dataclass(frozen=True)
class Event:
    """Progress of one notebook: cell number `done` of `cells` is about to run, or it has ended with `result`."""

    notebook: str
    done: int
    cells: int
    cell: str = ""
    result: NotebookResult | None = None


class Interrupted(KeyboardInterrupt):
    """The run was ended by a signal; everything it started has ended too. `results` holds what had been run."""

    def __init__(self, results: list[NotebookResult], signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.results = results
        self.exit_code = 128 + signal_number
