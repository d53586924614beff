"""What a plan is made of, as data: its steps, what must be true, and what would be planned as the way back.

How each kind of step acts is in `execution/steps.py`. A new kind goes into `Step` here and into `Actor.act` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from xai_runbook.window import duration_seconds

Argument = str | int | float | bool | None | list[str] | list[int]


@dataclass(frozen=True, kw_only=True)
class Sql:
    """One statement, `sql/NAME.sql`, with the operator's role. It returns one row with a column `done`.

    `done` false is a compare-and-set that found the world changed: known to have had no effect.
    """

    name: str
    parameters: Mapping[str, str | None]
    equivalent: str
    """The equivalent line for a shell, shown beside the real call."""
    kind: Literal["sql"] = "sql"


@dataclass(frozen=True, kw_only=True)
class Command:
    """One program, without a shell; `python` as its first word is the Python that runs this package.

    It ends by itself within `seconds`, is ended with us, and succeeds by exit code 0: known to have had no effect
    lasting beyond its own end.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    seconds: str
    equivalent: str
    kind: Literal["command"] = "command"


Step = Sql | Command


@dataclass(frozen=True, kw_only=True)
class Condition:
    """True when a query has rows and, in every row, `column` compares so with `value`."""

    question: str
    """The query's dotted name, in xai_runbook.operations."""
    arguments: Mapping[str, Argument]
    column: str
    comparison: Literal["==", "<=", ">="]
    value: str
    within: str = "0s"
    """How long it may take to become true."""
    words: str = ""
    """The same for a person: "the sessions have gone"."""

    def __str__(self) -> str:
        late = f" within {self.within}" if duration_seconds(self.within) else ""
        told = f"{self.column} {self.comparison} {self.value}"
        return f"{self.words}{late} ({told})" if self.words else f"{told}{late} ({self.question.rpartition('.')[2]})"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A change that would be planned when it is wanted: the way back."""

    change: str
    arguments: Mapping[str, Argument]
