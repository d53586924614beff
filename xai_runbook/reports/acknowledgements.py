"""Acknowledged findings: marked in every report and not counted in its verdict, until they expire or worsen.

They are kept in one TOML file, the setting `outputs.acknowledgements`. A finding counts again when its status has
changed, its severity is higher, or it names a target that the acknowledgement does not.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from xai_runbook.errors import InputError, SettingsError, inert
from xai_runbook.model.findings import Finding, Severity, Status
from xai_runbook.model.validation import validated
from xai_runbook.model.window import duration_seconds
from xai_runbook.reports.report import folder_of, saved_reports
from xai_runbook.settings.loading import load
from xai_runbook.system.files import make_private_folder, write_atomically
from xai_runbook.system.locks import locked
from xai_runbook.system.suggestions import suggestion

if TYPE_CHECKING:
    from xai_runbook.settings.models import Settings

_MAXIMUM = timedelta(days=366)
_LOCK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """One finding of one environment as it was when it was acknowledged: by whom, why and until when."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    environment: str
    finding: str
    until: datetime
    why: str
    by: str
    at: datetime
    status: Status
    severity: Severity | None = None
    targets: tuple[str, ...]

    def covers(self, finding: Finding, now: datetime) -> bool:
        """Return whether it applies to `finding` as it is now: it has not expired and the finding is not worse.

        An alert that has become `unknown` is not covered, because the reason may be worse than the alert.
        """
        then = Finding(name=self.finding, status=self.status, severity=self.severity, summary="")
        return (
            finding.name == self.finding
            and now < self.until
            and finding.status == self.status
            and finding.rank >= then.rank
            and set(finding.targets) <= set(self.targets)
        )


def mark_acknowledged(
    findings: Iterable[Finding],
    acknowledgements: Sequence[Acknowledgement],
    environment: str,
    now: datetime | None = None,
) -> list[Finding]:
    """Return the findings, with `until`, `why` and `by` in those that are acknowledged."""
    now = now or datetime.now(UTC)
    own = [row for row in acknowledgements if row.environment == environment]
    marked = []
    for finding in findings:
        row = next((row for row in own if row.covers(finding, now)), None)
        if row and finding.status is not Status.OK:
            marks = {"until": row.until.isoformat(), "why": inert(row.why), "by": inert(row.by, 200)}
            marked.append(replace(finding, acknowledged=marks))
        else:
            # a notebook's output cannot acknowledge its own finding
            marked.append(replace(finding, acknowledged=None))
    return marked


def new_acknowledgement(finding: Finding, environment: str, until: str, why: str) -> Acknowledgement:
    """Return an acknowledgement of `finding`. Errors: InputError for an invalid time, no reason or an ok finding."""
    if finding.status is Status.OK:
        raise InputError(f"{finding.name} is ok: there is nothing to acknowledge", on=environment)
    if not why.strip():
        raise InputError("an acknowledgement needs a reason", hint='--why "replacement disk arrives at 14:00"')
    now = datetime.now(UTC)
    return Acknowledgement(
        environment=environment,
        finding=finding.name,
        until=parse_until(until, now),
        why=inert(why.strip(), 500),
        by=f"{_login()}@{socket.gethostname()}",
        at=now,
        status=finding.status,
        severity=finding.severity,
        targets=finding.targets,
    )


def acknowledge(
    environment: str, finding: str, *, until: str, why: str, folder: str | Path | None = None
) -> Acknowledgement:
    """Acknowledge a finding of the environment's newest report until a time ("4h" or ISO 8601), and save that.

    `folder` is the folder with the reports; by default that of the settings. Errors: InputError when there is no
    report or no such finding in it, or for an invalid time, no reason or an ok finding; SettingsError for the file.
    """
    settings = load(environment)
    newest = next(saved_reports(folder_of(settings, folder), settings.name), None)
    if newest is None:
        raise InputError("there is no report yet", on=settings.name, hint="run xai-runbook report first")
    try:
        findings = {each.name: each for each in map(Finding.from_json, newest["findings"])}
    except (KeyError, TypeError, ValueError):
        raise InputError("the newest report cannot be read", hint="run xai-runbook report to make a new one") from None
    if finding not in findings:
        not_ok = [name for name, each in findings.items() if each.status is not Status.OK]
        raise InputError(
            f"the newest report has no finding {inert(finding, 100)}",
            on=str(newest.get("id")),
            hint=suggestion(finding, not_ok) if not_ok else "all of its findings are ok",
        )
    acknowledgement = new_acknowledgement(findings[finding], settings.name, until, why)
    add(path_of(settings), acknowledgement)
    return acknowledgement


def parse_until(text: str, now: datetime) -> datetime:
    """Return the time in `text`: ISO 8601 with a zone, or a duration from now such as "4h". Errors: InputError."""
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        try:
            until = now + timedelta(seconds=duration_seconds(text))
        except (InputError, OverflowError):
            hint = 'expected "4h", or ISO 8601 with a zone: 2026-01-31T10:00:00Z'
            raise InputError(f"invalid time {inert(text, 100)!r}", hint=hint) from None
    if until.tzinfo is None:
        raise InputError(f"{until} has no time zone", hint="2026-01-31T10:00:00Z")
    if not now < until <= now + _MAXIMUM:
        raise InputError(f"{until.isoformat()} is not within the next year", hint='a future time, such as "4h"')
    return until.astimezone(UTC).replace(microsecond=0)


def path_of(settings: Settings) -> Path:
    """Return the path of the environment's acknowledgements file."""
    return Path(settings.outputs.acknowledgements).expanduser()


def read(path: Path) -> list[Acknowledgement]:
    """Return the acknowledgements in the file; none if there is no file. Errors: SettingsError for an invalid file."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"the acknowledgements cannot be read: {error.strerror}", on=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the acknowledgements are not TOML: {inert(str(error), 200)}", on=str(path), hint="fix or remove the file"
        ) from None
    if document.keys() - {"acknowledgement"} or not isinstance(document.get("acknowledgement", []), list):
        raise SettingsError("only [[acknowledgement]] tables are allowed", on=str(path), hint="fix or remove the file")
    return [_parsed(row, number, path) for number, row in enumerate(document.get("acknowledgement", []), 1)]


def _parsed(row: Any, number: int, path: Path) -> Acknowledgement:
    try:
        acknowledgement = validated(Acknowledgement, row)
        for key in ("until", "at"):
            if not isinstance(row[key], datetime) or row[key].tzinfo is None:
                raise ValueError(f"{key}: expected a TOML time with a zone, such as 2026-01-31T10:00:00Z")
        return replace(acknowledgement, until=row["until"], at=row["at"])
    except ValueError as error:
        raise SettingsError(
            f"acknowledgement {number} is invalid: {inert(str(error), 200)}",
            on=str(path),
            hint="fix or remove it, or write it anew with xai-runbook ack",
        ) from None


def add(path: Path, new: Acknowledgement) -> None:
    """Save `new`, replacing an older one of the same finding; expired ones are dropped. Errors: SettingsError."""
    with _locked_rows(path) as rows:
        rows[:] = [row for row in rows if not _is_about(row, new.environment, new.finding)] + [new]


def remove(path: Path, environment: str, finding: str) -> None:
    """Remove an acknowledgement. Errors: InputError when there is none, SettingsError for the file."""
    with _locked_rows(path) as rows:
        if not any(_is_about(row, environment, finding) for row in rows):
            known = [row.finding for row in rows if row.environment == environment]
            hint = suggestion(finding, known) if known else "xai-runbook ack --list"
            raise InputError(f"{inert(finding, 100)} is not acknowledged in {environment}", on=str(path), hint=hint)
        rows[:] = [row for row in rows if not _is_about(row, environment, finding)]


def _is_about(row: Acknowledgement, environment: str, finding: str) -> bool:
    return (row.environment, row.finding) == (environment, finding)


@contextlib.contextmanager
def _locked_rows(path: Path) -> Iterator[list[Acknowledgement]]:
    """Lock the file, yield its acknowledgements and, if the block raised nothing, write them back."""
    import tomli_w

    lock = path.with_name(f".{path.name}.lock")
    try:
        make_private_folder(path.parent)
        with locked(lock, wait_seconds=_LOCK_SECONDS):
            rows = read(path)
            yield rows
            now = datetime.now(UTC)
            tables = [
                {key: value for key, value in asdict(row).items() if value is not None}
                | {"status": str(row.status), "targets": list(row.targets)}
                | ({"severity": str(row.severity)} if row.severity else {})
                for row in rows
                if now < row.until
            ]
            write_atomically(path, tomli_w.dumps({"acknowledgement": tables}).encode())
    except BlockingIOError:
        raise SettingsError("another process is changing the acknowledgements", on=str(lock)) from None
    except OSError as error:
        raise SettingsError(f"the acknowledgements cannot be written: {error.strerror}", on=str(path)) from None


def _login() -> str:
    # under sudo, the user who ran it
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
