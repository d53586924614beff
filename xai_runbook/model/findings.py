"""What a question came to: Status, Severity, Limit, Finding, and the verdict over many."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xai_runbook.errors import InputError, XaiRunbookError, inert
from xai_runbook.model.units import Unit, quantity
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from pandas import DataFrame

MIME_TYPE = "application/vnd.xai-runbook.finding+json"


class Status(StrEnum):
    """`unknown` is what could not be told; it is never folded into `ok`."""

    OK = "ok"
    ALERT = "alert"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """The runbook's own three words, mildest first."""

    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Verdict(StrEnum):
    """What a whole report says; `exit_code` is what the command line leaves with."""

    OK = "ok"
    ALERT = "alert"
    CRITICAL = "critical"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """0 ok, 1 alert, 2 critical alert, 3 could not tell."""
        return {"ok": 0, "alert": 1, "critical": 2, "unknown": 3}[self.value]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One row of the settings' table of limits: the only place where a threshold stands."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str
    title: str
    """Words for a person, readable beside ok as beside alert: "CPU used"."""
    threshold: float
    unit: Unit
    direction: Literal["above", "below"]
    """The side of the threshold that is wrong; the threshold itself is still right."""
    severity: Severity
    hint: str
    """What to do next, and in which notebook."""
    duration: str = "0s"
    """How long the wrong side must hold without a break, as a Prometheus duration."""
    alert: str = ""
    """The name of its rule in Prometheus; without one its own: "sync_lag" is SyncLag."""

    def __post_init__(self) -> None:
        if not self.alert:
            object.__setattr__(self, "alert", "".join(word.capitalize() for word in self.name.split("_")))
        try:
            duration_seconds(self.duration)
        except InputError as error:  # not echoed: settings never are
            raise ValueError(f"invalid duration; expected {error.hint}") from None
        if not math.isfinite(self.threshold):
            raise ValueError("a threshold must be a finite number")
        if self.unit == "ratio" and not 0 <= self.threshold <= 1:
            raise ValueError("a threshold in ratio must be between 0 and 1: 0.8 is 80 %")

    @property
    def duration_seconds(self) -> float:
        """`duration` in seconds."""
        return duration_seconds(self.duration)

    def exceeded(self, value: float) -> bool:
        """Whether `value` is on the wrong side now, whatever the duration; NaN is a ValueError."""
        if math.isnan(value):
            raise ValueError(f"NaN cannot be compared with the limit {self.name}")
        return value > self.threshold if self.direction == "above" else value < self.threshold

    def describe(self) -> str:
        """The limit in words: "above 80 % for 5m"."""
        held = f" for {self.duration}" if self.duration_seconds else ""
        return f"{self.direction} {quantity(self.threshold, self.unit)}{held}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one question. Shows itself as text and HTML; its JSON display is how a report reads it back."""

    name: str
    status: Status
    summary: str
    severity: Severity | None = None
    """How bad it is, or would be, when the status is `alert`."""
    targets: tuple[str, ...] = ()
    """What is wrong or could not be told: nodes, tables, hosts; none when all is well."""
    hint: str = ""
    observed_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    section: str = ""
    acknowledged: Mapping[str, str] | None = None
    """`until`, `why`, `by` of the acknowledgement that keeps it from turning the verdict."""

    @property
    def rank(self) -> int:
        """0 is worst: critical, high, medium, unknown, ok."""
        if self.status is Status.ALERT:
            return {Severity.CRITICAL: 0, Severity.HIGH: 1}.get(self.severity or Severity.MEDIUM, 2)
        return 3 if self.status is Status.UNKNOWN else 4

    @classmethod
    def unknown(cls, name: str, reason: XaiRunbookError | str, limit: Limit | None = None) -> Finding:
        """The finding of a question that could not be asked, with its reason."""
        if isinstance(reason, XaiRunbookError):
            where = f" ({reason.on})" if reason.on else ""
            words, hint = f"{reason.what}{where}", reason.hint
        else:
            words, hint = reason, ""
        return cls(
            name=name,
            status=Status.UNKNOWN,
            severity=limit.severity if limit else None,
            summary=inert(f"unknown, because {words}"),
            hint=inert(hint) or (limit.hint if limit else ""),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives the same finding back."""
        return {
            **asdict(self),
            "targets": list(self.targets),
            "observed_at": self.observed_at.isoformat(),
            "acknowledged": dict(self.acknowledged) if self.acknowledged else None,
        }

    @classmethod
    def from_json(cls, data: object) -> Finding:
        """The finding in `data`; ValueError where it is not one (an executed notebook is untrusted input)."""
        if not isinstance(data, dict) or not {"name", "status", "summary", "observed_at"} <= data.keys():
            raise ValueError("not a finding")
        texts = {key: data.get(key, "") for key in ("name", "summary", "hint", "section")}
        targets, acknowledged = data.get("targets", []), data.get("acknowledged")
        if not isinstance(targets, list) or not isinstance(acknowledged, dict | None):
            raise ValueError("a finding's targets are a list, its acknowledgement a table")
        words = [*texts.values(), *targets, *(acknowledged or {}), *(acknowledged or {}).values(), data["observed_at"]]
        if not all(isinstance(word, str) for word in words):
            raise ValueError("a finding's texts must be strings")
        observed_at = datetime.fromisoformat(data["observed_at"])
        if observed_at.tzinfo is None:
            raise ValueError("a finding's time must have a zone")
        try:
            observed_at = observed_at.astimezone(UTC)
        except OverflowError:
            raise ValueError("a finding's time must be one of the calendar") from None
        return cls(
            **{key: inert(text) for key, text in texts.items()},
            status=Status(data["status"]),
            severity=Severity(data["severity"]) if data.get("severity") is not None else None,
            targets=tuple(inert(target, 200) for target in targets),
            observed_at=observed_at,
            acknowledged={inert(key): inert(text) for key, text in acknowledged.items()} if acknowledged else None,
        )

    def __str__(self) -> str:
        severity = f" ({self.severity})" if self.status is Status.ALERT and self.severity else ""
        lines = [f"{self.status.upper()}{severity} {self.name}: {self.summary}"]
        if self.targets:
            lines.append(f"  on: {', '.join(self.targets)}")
        if self.hint and self.status is not Status.OK:
            lines.append(f"  next: {self.hint}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"text/plain": str(self), "text/html": self._html(), MIME_TYPE: self.to_json()}

    def _html(self) -> str:
        colour = {"ok": "#1a7f37", "unknown": "#6e5494"}.get(self.status)
        colour = colour or {"critical": "#b3001b", "high": "#c2410c"}.get(str(self.severity), "#9a6700")
        word = self.status if self.status is not Status.ALERT else f"{self.status} · {self.severity or 'medium'}"
        more = ""
        if self.targets:
            more += f"<div>on {html.escape(', '.join(self.targets))}</div>"
        if self.hint and self.status is not Status.OK:
            more += f"<div><em>Next: {html.escape(self.hint)}</em></div>"
        return (
            f'<div style="border-left:.4em solid {colour};padding:.3em .8em;margin:.3em 0">'
            f'<strong style="color:{colour}">{html.escape(word.upper())}</strong> '
            f"<strong>{html.escape(self.name)}</strong>: {html.escape(self.summary)}{more}</div>"
        )


def judge(limit: Limit, frame: DataFrame, *, value: str, target: str, noun: str) -> Finding:
    """The finding for one value a target, all held against `limit`, whose name it takes.

    `frame` has a column `target`, a column `value` in the limit's unit, and perhaps `error` (text where that target
    did not answer). A value that is missing or NaN is unknown; no rows at all is unknown. The summary begins with the
    worst target; `noun` says what the values are, with or without the unit: "peers connected".
    """
    errors = frame["error"] if "error" in frame else [""] * len(frame)
    numbers = frame[value].where(frame[value].notna(), math.nan).astype(float)
    rows = list(zip(frame[target].astype(str), numbers, errors, strict=True))
    if not rows:
        return Finding.unknown(limit.name, f"there is nothing to judge: no {noun}", limit)
    mute = [
        (name, error if isinstance(error, str) and error else "no value")
        for name, number, error in rows
        if math.isnan(number)
    ]
    told = sorted(
        ((name, number) for name, number, _ in rows if not math.isnan(number)),
        key=lambda row: row[1],
        reverse=limit.direction == "above",
    )  # worst first
    wrong = [(name, number) for name, number in told if limit.exceeded(number)]
    words = noun.removeprefix(limit.unit).strip()  # "3 peers connected", not "3 peers peers connected"
    if wrong:
        status, named = Status.ALERT, [name for name, _ in wrong]
        each = [
            f"{quantity(number, limit.unit)}{f' {words}' if place == 0 else ''}{f' on {name}' if len(rows) > 1 else ''}"
            for place, (name, number) in enumerate(wrong[:_MOST_NAMED])
        ]
        summary = f"{_listed(each, len(wrong))}: {limit.describe()}"
        summary += f" ({len(wrong)} of {len(rows)})" if len(rows) > 1 else ""
        summary += f"; {_not_judged(mute, len(rows))}" if mute else ""
    elif mute:
        status, named = Status.UNKNOWN, [name for name, _ in mute]
        summary = f"unknown, because {_not_judged(mute, len(rows))}"
    else:
        status, named = Status.OK, []
        name, number = told[0]
        nearest = f"{quantity(number, limit.unit)} {words}"
        if len(told) > 1 and number == told[-1][1]:
            nearest += f" on each of {len(told)}"
        elif len(told) > 1:
            nearest = f"at {'most' if limit.direction == 'above' else 'least'} {nearest} ({name})"
        summary = f"{nearest}; alert when {limit.describe()}"
    return Finding(
        name=limit.name,
        status=status,
        severity=limit.severity,
        summary=inert(summary),
        hint=limit.hint,
        targets=tuple(inert(name, 200) for name in named),
    )


_MOST_NAMED = 3


def _not_judged(mute: list[tuple[str, str]], total: int) -> str:
    """Who could not be judged, and why: "node-2 could not be judged: the connection was refused"."""
    reasons = {reason for _, reason in mute}
    if len(mute) > 1 and len(reasons) == 1:
        who = f"none of {total}" if len(mute) == total else _listed([name for name, _ in mute[:_MOST_NAMED]], len(mute))
        return f"{who} could be judged: {mute[0][1]}" if len(mute) == total else f"not judged: {who}: {mute[0][1]}"
    return _listed([f"{name} could not be judged: {reason}" for name, reason in mute[:_MOST_NAMED]], len(mute), "; ")


def _listed(shown: list[str], total: int, between: str = ", ") -> str:
    return between.join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")


def verdict(findings: Iterable[Finding], *, complete: bool) -> Verdict:
    """What the findings come to. A report that is incomplete or has no findings is never better than `unknown`.

    Acknowledged findings do not count; a report in which nothing else was found is still a report.
    """
    every = list(findings)
    counted = [finding for finding in every if not finding.acknowledged]
    alerts = [finding for finding in counted if finding.status is Status.ALERT]
    if any(finding.severity is Severity.CRITICAL for finding in alerts):
        return Verdict.CRITICAL
    if not complete or not every:
        return Verdict.UNKNOWN
    if alerts:
        return Verdict.ALERT
    return Verdict.UNKNOWN if any(finding.status is Status.UNKNOWN for finding in counted) else Verdict.OK
