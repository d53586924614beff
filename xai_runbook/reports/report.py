"""The record of a report as data, and the folder in which reports are stored."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import ReportError, inert
from xai_runbook.model.findings import Finding, Verdict, verdict
from xai_runbook.reports.runner.result import Chart, NotebookResult
from xai_runbook.system.files import make_private_folder, replace_symlink, write_atomically

if TYPE_CHECKING:
    from xai_runbook.settings.models import Settings

SCHEMA = "xai-runbook/report/1"
_REPORT_BYTES = 4 * 2**20  # size of a report with its notebooks and charts; checked before a run


@dataclass(frozen=True, kw_only=True)
class Record:
    """Findings and circumstances of one report; report.json and `check --json` are its JSON."""

    id: str
    environment: str
    description: str
    production: bool
    simulated: tuple[str, ...]
    started_at: datetime
    finished_at: datetime
    complete: bool
    """Whether every notebook ran to its end and every declared question has an answer."""
    not_configured: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    """Parts that the sandbox could not start, each with the reason and how to install it."""
    findings: tuple[Finding, ...]
    """Worst first; names are unique."""
    notebooks: tuple[NotebookResult, ...]
    charts: Mapping[str, tuple[Chart, ...]]
    """The charts of each finding, by its name."""

    @property
    def verdict(self) -> Verdict:
        """Return the verdict over the findings."""
        return verdict(self.findings, complete=self.complete)

    @property
    def blocked_by_part(self) -> dict[str, list[str]]:
        """Return the names of the findings that are unknown because a part is missing, by part, most names first.

        They share one reason, which is shown once. A missing optional part has no names.
        """
        names: dict[str, list[str]] = {part: [] for part in self.missing}
        for finding in self.findings:
            for part in self.missing:
                if finding.summary.startswith(f"unknown, because {part} is missing:") and not finding.acknowledged:
                    names[part].append(finding.name)
        return dict(sorted(names.items(), key=lambda item: -len(item[1])))

    @property
    def unblocked(self) -> list[Finding]:
        """Return the findings that are not unknown because of a missing part: those to show one by one."""
        blocked = {name for names in self.blocked_by_part.values() for name in names}
        return [finding for finding in self.findings if finding.name not in blocked]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values in the schema `xai-runbook/report/1`."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "tool": f"xai-runbook {version()}",
            "environment": self.environment,
            "description": self.description,
            "production": self.production,
            "simulated": list(self.simulated),
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "verdict": str(self.verdict),
            "complete": self.complete,
            "not_configured": list(self.not_configured),
            "missing": dict(self.missing),
            "findings": [finding.to_json() for finding in self.findings],
            "notebooks": [
                {
                    "name": result.name,
                    "path": str(result.path),
                    "status": result.status,
                    "seconds": round(result.seconds, 3),
                    "error": result.error or None,
                }
                for result in self.notebooks
            ],
        }


def record(
    settings: Settings,
    results: Sequence[NotebookResult],
    *,
    id_: str,
    started_at: datetime,
    declared: Mapping[str, Sequence[str]],
    judged: Iterable[Finding] | None = None,
    relative_to: Path | None = None,
) -> Record:
    """Return the Record of the notebooks' results.

    `declared` are the questions of each notebook: without an answer to each, the report is incomplete. `judged` are
    the findings with their acknowledgements, by default those of `results`. Paths are relative to `relative_to`.
    """
    answers = [answer for result in results for answer in result.answers]
    answered = {(result.name, answer.name) for result in results for answer in result.answers}
    expected = {(notebook, name) for notebook, names in declared.items() for name in names}
    completed = {result.name for result in results if result.status == "completed"}
    parts = [*settings.not_configured, *(answer.not_configured for answer in answers)]
    findings = list(judged) if judged is not None else findings_of(results)
    charts: dict[str, tuple[Chart, ...]] = {}
    for answer in answers:
        if answer.charts:
            charts.setdefault(answer.name, answer.charts)
    return Record(
        id=id_,
        environment=settings.name,
        description=settings.description,
        production=settings.production,
        simulated=tuple(settings.simulated),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        complete=bool(results)
        and set(declared) == completed
        and len(completed) == len(results)
        and expected <= answered,
        not_configured=tuple(dict.fromkeys(part for part in parts if part)),
        missing=settings.sandbox.missing if settings.sandbox else {},
        findings=tuple(sorted(findings, key=lambda finding: (finding.rank, bool(finding.acknowledged)))),
        notebooks=tuple(_relative(result, relative_to) for result in results),
        charts=charts,
    )


def findings_of(results: Sequence[NotebookResult]) -> list[Finding]:
    """Return the findings of all notebooks, of each name the worst."""
    worst: dict[str, Finding] = {}
    for finding in (answer.finding for result in results for answer in result.answers if answer.finding):
        if finding.name not in worst or finding.rank < worst[finding.name].rank:
            worst[finding.name] = finding
    return list(worst.values())


def _relative(result: NotebookResult, folder: Path | None) -> NotebookResult:
    if folder and result.path.is_relative_to(folder):
        return replace(result, path=result.path.relative_to(folder))
    return result


def folder_of(settings: Settings, out: str | Path | None = None) -> Path:
    """Return the folder of an environment's reports: `out`, by default that of the settings."""
    return Path(out).expanduser() if out else Path(settings.outputs.folder).expanduser() / "reports"


def new_id(environment: str, now: datetime | None = None) -> str:
    """Return a new report id, sortable by time: 20261125T001500Z-sandbox-ab12."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}-{environment}-{secrets.token_hex(2)}"


def open_folder(folder: Path, id_: str) -> Path:
    """Create the private folder `folder/id_` and check that a report fits on the disk. Errors: ReportError."""
    own_folder = folder / id_
    try:
        make_private_folder(folder)
        own_folder.mkdir(mode=0o700)
    except OSError as error:
        raise _write_error(error, folder) from None
    try:
        descriptor = os.open(own_folder / ".room", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _REPORT_BYTES)
        finally:
            os.close(descriptor)
        (own_folder / ".room").unlink()
    except OSError as error:
        shutil.rmtree(own_folder, ignore_errors=True)
        raise _write_error(error, folder) from None
    return own_folder


def save(report: Record, page: str, folder: Path) -> Path:
    """Write index.html and report.json to `folder/ID`, point `folder/latest` to it and return the page's path.

    Errors: ReportError; then neither file exists and `latest` is unchanged.
    """
    own_folder = folder / report.id
    written: list[Path] = []
    try:
        for name, content in (
            ("index.html", page.encode("utf-8", "replace")),
            ("report.json", json.dumps(report.to_json(), indent=1, ensure_ascii=False).encode("utf-8", "replace")),
        ):
            write_atomically(own_folder / name, content)
            written.append(own_folder / name)
        replace_symlink(folder / "latest", report.id)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise _write_error(error, folder) from None
    return own_folder / "index.html"


def _write_error(error: OSError, folder: Path) -> ReportError:
    return ReportError(
        f"the report cannot be saved: {error.strerror or error}",
        on=str(folder),
        hint="free disk space or choose another folder with --out; `xai-runbook check` writes nothing",
    )


def saved_reports(folder: Path, environment: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON of the environment's reports under `folder`, newest first, without unreadable ones."""
    try:
        folders = sorted((path for path in folder.iterdir() if not path.is_symlink()), reverse=True)
    except OSError:
        return
    for own_folder in folders:
        try:
            report = json.loads((own_folder / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(report, dict) and report.get("schema") == SCHEMA and report.get("environment") == environment:
            yield report


def version() -> str:
    """Return the installed version of this package, or "unknown"."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return inert(installed("xai_runbook"), 50)
    except PackageNotFoundError:
        return "unknown"
