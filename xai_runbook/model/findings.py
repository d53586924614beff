"""Check results: Limit, Finding, its status and severity, and the verdict over all findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xai_runbook.errors import InputError, XaiRunbookError, inert
from xai_runbook.model.display.html_fragments import badge, box, emphasis, line, strong, text
from xai_runbook.model.units import Unit, quantity
from xai_runbook.model.validation import validated
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from pandas import DataFrame

MIME_TYPE = "application/vnd.xai-runbook.finding+json"
_MAX_NAMED = 3  # targets in a summary


class Status(StrEnum):
    """Status of a finding. `unknown`: the check could not be made; it never counts as `ok`."""

    OK = "ok"
    ALERT = "alert"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """Severity of an alert in the runbook's terms, mildest first."""

    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Verdict(StrEnum):
    """Verdict over all findings of a report."""

    OK = "ok"
    ALERT = "alert"
    CRITICAL = "critical"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """Return the exit code of the command line: 0 ok, 1 alert, 2 critical alert, 3 unknown."""
        return {"ok": 0, "alert": 1, "critical": 2, "unknown": 3}[self.value]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit of the settings: the only place where a threshold is defined."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str
    title: str
    """Display name that suits any status: "CPU used"."""
    threshold: float
    unit: Unit
    direction: Literal["above", "below"]
    """Which side of the threshold is an alert; the threshold itself is ok."""
    severity: Severity
    hint: str
    """What to do next, and in which notebook."""
    duration: str = "0s"
    """How long the limit must be exceeded without interruption, as a Prometheus duration."""
    alert: str = ""
    """Name of the alerting rule in Prometheus; by default `name` in camel case: "sync_lag" is SyncLag."""

    def __post_init__(self) -> None:
        if not self.alert:
            object.__setattr__(self, "alert", "".join(word.capitalize() for word in self.name.split("_")))
        try:
            duration_seconds(self.duration)
        except InputError as error:  # without the value: errors about settings never show values
            raise ValueError(f"invalid duration; expected {error.hint}") from None
        if not math.isfinite(self.threshold):
            raise ValueError("a threshold must be a finite number")
        if self.unit == "ratio" and not 0 <= self.threshold <= 1:
            raise ValueError("a threshold in ratio must be between 0 and 1: 0.8 is 80 %")

    @property
    def duration_seconds(self) -> float:
        """Return `duration` in seconds."""
        return duration_seconds(self.duration)

    def exceeded(self, value: float) -> bool:
        """Return whether `value` is beyond the threshold now, whatever the duration. Errors: ValueError for NaN."""
        if math.isnan(value):
            raise ValueError(f"NaN cannot be compared with the limit {self.name}")
        return value > self.threshold if self.direction == "above" else value < self.threshold

    def describe(self) -> str:
        """Return the limit as text: "above 80 % for 5m"."""
        duration = f" for {self.duration}" if self.duration_seconds else ""
        return f"{self.direction} {quantity(self.threshold, self.unit)}{duration}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one check. Displayed as text and HTML, and as JSON, which the report reads back from the notebook."""

    name: str
    status: Status
    summary: str
    severity: Severity | None = None
    """Severity when the status is `alert`, or the severity it would then have."""
    targets: tuple[str, ...] = ()
    """What the alert or unknown is about: nodes, tables, hosts; empty when the status is `ok`."""
    hint: str = ""
    observed_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    section: str = ""
    acknowledged: Mapping[str, str] | None = None
    """`until`, `why` and `by` of the acknowledgement, because of which it does not count in the verdict."""

    @property
    def level(self) -> Literal["critical", "high", "medium", "unknown", "ok"]:
        """Return the severity of an alert, else the status."""
        if self.status is Status.ALERT:
            return Severity(self.severity or Severity.MEDIUM).value  # a notebook may give it as plain text
        return "unknown" if self.status is Status.UNKNOWN else "ok"

    @property
    def rank(self) -> int:
        """Return the position in the order critical, high, medium, unknown, ok; 0 is worst."""
        return ("critical", "high", "medium", "unknown", "ok").index(self.level)

    @classmethod
    def unknown(cls, name: str, reason: XaiRunbookError | str, limit: Limit | None = None) -> Finding:
        """Return the finding of a check that could not be made, with the reason."""
        if isinstance(reason, XaiRunbookError):
            target = f" ({reason.on})" if reason.on else ""
            message, hint = f"{reason.what}{target}", reason.hint
        else:
            message, hint = reason, ""
        return cls(
            name=name,
            status=Status.UNKNOWN,
            severity=limit.severity if limit else None,
            summary=inert(f"unknown, because {message}"),
            hint=inert(hint) or (limit.hint if limit else ""),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` returns an equal finding."""
        return {
            **asdict(self),
            "targets": list(self.targets),
            "observed_at": self.observed_at.isoformat(),
            "acknowledged": dict(self.acknowledged) if self.acknowledged else None,
        }

    @classmethod
    def from_json(cls, data: object) -> Finding:
        """Return the finding that `data` describes. Errors: ValueError, because an executed notebook is untrusted."""
        finding = validated(cls, data)
        if not isinstance(data, dict) or "observed_at" not in data:
            raise ValueError("observed_at: Field required")  # only a new finding is observed now
        if finding.observed_at.tzinfo is None:
            raise ValueError("observed_at: the time has no zone")
        try:
            observed_at = finding.observed_at.astimezone(UTC)
        except OverflowError:
            raise ValueError("observed_at: in UTC, the time is outside the calendar") from None
        acknowledged = finding.acknowledged or {}
        return replace(
            finding,
            name=inert(finding.name),
            summary=inert(finding.summary),
            hint=inert(finding.hint),
            section=inert(finding.section),
            targets=tuple(inert(target, 200) for target in finding.targets),
            observed_at=observed_at,
            acknowledged={inert(key): inert(text) for key, text in acknowledged.items()} or None,
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
        label = self.status if self.status is not Status.ALERT else f"{self.status} · {self.level}"
        lines = []
        if self.targets:
            lines.append(line(text(f"on {', '.join(self.targets)}")))
        if self.hint and self.status is not Status.OK:
            lines.append(line(emphasis(f"Next: {self.hint}")))
        content = box(self.level, badge(self.level, label.upper()), strong(self.name), text(self.summary), *lines)
        return {"text/plain": str(self), "text/html": content, MIME_TYPE: self.to_json()}


def judge(limit: Limit, frame: DataFrame, *, value: str, target: str, noun: str) -> Finding:
    """Return the finding, named as the limit, that compares one value per target with the limit.

    `frame` has a column `target`, a column `value` in the limit's unit, and optionally `error`, the message of a
    target that did not answer. A missing value or NaN is unknown, and so is an empty frame. The summary starts with
    the worst target; `noun` describes the values, with or without the unit: "peers connected".
    """
    errors = frame["error"] if "error" in frame else [""] * len(frame)
    numbers = frame[value].where(frame[value].notna(), math.nan).astype(float)
    rows = list(zip(frame[target].astype(str), numbers, errors, strict=True))
    if not rows:
        return Finding.unknown(limit.name, f"there is nothing to judge: no {noun}", limit)
    missing = [
        (name, error if isinstance(error, str) and error else "no value")
        for name, number, error in rows
        if math.isnan(number)
    ]
    measured = sorted(
        ((name, number) for name, number, _ in rows if not math.isnan(number)),
        key=lambda row: row[1],
        reverse=limit.direction == "above",
    )  # worst first
    exceeding = [(name, number) for name, number in measured if limit.exceeded(number)]
    what = noun.removeprefix(limit.unit).strip()  # "3 peers connected", not "3 peers peers connected"
    if exceeding:
        status, targets = Status.ALERT, [name for name, _ in exceeding]
        values = [
            f"{quantity(number, limit.unit)}{f' {what}' if index == 0 else ''}{f' on {name}' if len(rows) > 1 else ''}"
            for index, (name, number) in enumerate(exceeding[:_MAX_NAMED])
        ]
        summary = f"{_enumerated(values, len(exceeding))}: {limit.describe()}"
        summary += f" ({len(exceeding)} of {len(rows)})" if len(rows) > 1 else ""
        summary += f"; {_missing_text(missing, len(rows))}" if missing else ""
    elif missing:
        status, targets = Status.UNKNOWN, [name for name, _ in missing]
        summary = f"unknown, because {_missing_text(missing, len(rows))}"
    else:
        status, targets = Status.OK, []
        name, number = measured[0]
        worst = f"{quantity(number, limit.unit)} {what}"
        if len(measured) > 1 and number == measured[-1][1]:
            worst += f" on each of {len(measured)}"
        elif len(measured) > 1:
            worst = f"at {'most' if limit.direction == 'above' else 'least'} {worst} ({name})"
        summary = f"{worst}; alert when {limit.describe()}"
    return Finding(
        name=limit.name,
        status=status,
        severity=limit.severity,
        summary=inert(summary),
        hint=limit.hint,
        targets=tuple(inert(name, 200) for name in targets),
    )


def _missing_text(missing: list[tuple[str, str]], total: int) -> str:
    """Return the targets without a value and the reason: "node-2 could not be judged: the connection was refused"."""
    reasons = {reason for _, reason in missing}
    if len(missing) > 1 and len(reasons) == 1:
        if len(missing) == total:
            return f"none of {total} could be judged: {missing[0][1]}"
        return f"not judged: {_enumerated([name for name, _ in missing[:_MAX_NAMED]], len(missing))}: {missing[0][1]}"
    texts = [f"{name} could not be judged: {reason}" for name, reason in missing[:_MAX_NAMED]]
    return _enumerated(texts, len(missing), "; ")


def _enumerated(shown: list[str], total: int, separator: str = ", ") -> str:
    return separator.join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")


def verdict(findings: Iterable[Finding], *, complete: bool) -> Verdict:
    """Return the verdict over the findings; without findings or when incomplete, it is `unknown` or `critical`.

    Acknowledged findings do not count, except that a report with only acknowledged findings is not empty.
    """
    all_findings = list(findings)
    counted = [finding for finding in all_findings if not finding.acknowledged]
    alerts = [finding for finding in counted if finding.status is Status.ALERT]
    if any(finding.severity is Severity.CRITICAL for finding in alerts):
        return Verdict.CRITICAL
    if not complete or not all_findings:
        return Verdict.UNKNOWN
    if alerts:
        return Verdict.ALERT
    return Verdict.UNKNOWN if any(finding.status is Status.UNKNOWN for finding in counted) else Verdict.OK
