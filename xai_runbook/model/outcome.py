"""The outcome of applying a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from xai_runbook.model.display.html_fragments import Tone, box, preformatted

MIME_TYPE = "application/vnd.xai-runbook.outcome+json"

Status = Literal["done", "failed", "unknown"]

_TONES: dict[Status, Tone] = {"done": "ok", "failed": "medium", "unknown": "unknown"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of applying a plan.

    `done`: the expected condition was seen. `failed`: certainly no effect, or only one that the summary names.
    `unknown`: anything else; it blocks the plan's target until `xai-runbook journal reconcile`.
    """

    status: Status
    entry: int
    """The number of the plan's intent in the journal."""
    summary: str
    observed: tuple[Mapping[str, str | None], ...] = ()
    """The rows of the expected condition's query, as last seen."""
    notices: tuple[str, ...] = ()
    """The server's notices, such as tables that it skipped."""
    interrupted: bool = False
    undo_hint: str = ""
    """How to undo it, or that it cannot be undone."""

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 3 unknown, 130 interrupted."""
        return 130 if self.interrupted else {"done": 0, "failed": 1, "unknown": 3}[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [", ".join(f"{key} {row[key]}" for key in row if key != "description") for row in self.observed[:10]]
        seen = "".join(f"\n  observed: {row}" for row in rows)
        seen += "".join(f"\n  notice: {line}" for line in self.notices)
        undo = f"\n  undo: {self.undo_hint}" if self.undo_hint and self.status != "failed" else ""
        look = f"\n  next: xai-runbook journal reconcile {self.entry}" if self.status == "unknown" else ""
        return f"{self.status.upper()} (journal entry {self.entry}): {self.summary}{seen}{look}{undo}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        content = box(_TONES[self.status], preformatted(str(self)))
        return {"text/plain": str(self), "text/html": content, MIME_TYPE: self.to_json()}
