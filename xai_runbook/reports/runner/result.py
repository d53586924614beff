"""Results of running a notebook: the data that the runner returns and the report reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xai_runbook.model.findings import Finding

RunStatus = Literal["completed", "failed", "incomplete"]


@dataclass(frozen=True)
class Chart:
    """One chart of a question's cell; `png` has been checked to be a PNG."""

    png: bytes
    alt: str


@dataclass(frozen=True)
class CellAnswer:
    """The answer of one question: a finding, or the part that is not configured."""

    name: str
    """The cell's id, which is the finding's name."""
    section: str
    finding: Finding | None
    """None only when a part is not configured; a check that could not be made has a finding of status unknown."""
    not_configured: str = ""
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class NotebookResult:
    """Result of running one notebook. Only `completed` means that all its questions were answered."""

    name: str
    path: Path
    """The executed copy; the file is missing if it could not be written."""
    status: RunStatus
    """`failed`: it ran to its end, but a cell failed; `incomplete`: it did not run to its end."""
    seconds: float
    error: str = ""
    """The first fault, in one line."""
    answers: tuple[CellAnswer, ...] = ()


@dataclass(frozen=True)
class Event:
    """Progress of one notebook: `done` of `cells` cells are done and `cell` is next, or it ended with `result`."""

    notebook: str
    done: int
    cells: int
    cell: str = ""
    result: NotebookResult | None = None


class Interrupted(KeyboardInterrupt):
    """A signal ended the run and all its processes; `results` has the notebooks' results until then."""

    def __init__(self, results: list[NotebookResult], signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.results = results
        self.exit_code = 128 + signal_number
