"""Make a report: run notebooks and write their findings as a page and as JSON.

`xai_runbook.reports.check.check` runs only the checks, in seconds, and writes nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from xai_runbook.errors import InputError, ReportError
from xai_runbook.model.findings import Finding, Verdict
from xai_runbook.model.window import Window, duration_seconds
from xai_runbook.reports import acknowledgements, html
from xai_runbook.reports.notebooks.cells import HEALTH_REPORT, find, read
from xai_runbook.reports.report import Record, findings_of, folder_of, new_id, open_folder, record, save
from xai_runbook.reports.runner.result import Event, Interrupted
from xai_runbook.reports.runner.run import execute
from xai_runbook.settings.loading import load
from xai_runbook.settings.models import Settings


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """A report that was written to disk."""

    record: Record
    folder: Path
    """The folder of this report, with the page, report.json and the executed notebooks."""
    page: Path

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings, worst first."""
        return self.record.findings

    @property
    def verdict(self) -> Verdict:
        """Return the verdict over all findings."""
        return self.record.verdict

    @property
    def exit_code(self) -> int:
        """Return 0 ok, 1 alert, 2 critical alert, 3 unknown."""
        return self.record.verdict.exit_code


class ReportInterrupted(KeyboardInterrupt):
    """A signal ended the run and all its processes; `report` has the findings until then."""

    def __init__(self, report: ReportResult, exit_code: int) -> None:
        super().__init__(f"interrupted: {report.page}")
        self.report, self.exit_code = report, exit_code


class ReportNotSaved(ReportError):
    """The notebooks ran, but the report cannot be written; `record` has the findings."""

    def __init__(self, what: str, *, on: str = "", hint: str = "", record: Record | None = None) -> None:
        super().__init__(what, on=on, hint=hint)
        self.record = record


def make_report(
    environment: str = "",
    notebooks: Sequence[str | Path] = (HEALTH_REPORT,),
    *,
    window: str = "",
    parameters: Mapping[str, object] | None = None,
    folder: str | Path | None = None,
    jobs: int | None = None,
    cell_timeout: str = "2m",
    timeout: str = "15m",
    progress: Callable[[Event], None] = lambda event: None,
) -> ReportResult:
    """Run notebooks, write the report to a new folder under `folder` and point the link `latest` to it.

    `environment` is a name or the path of a NAME.toml, by default `$XAI_RUNBOOK_ENV`, else the sandbox; not an
    Environment, because the kernels load the settings themselves. `notebooks` are names or paths. `window` is the time
    span of the charts ("6h" or START/END). Each of `parameters` goes to the notebooks that declare it. `folder` is by
    default that of the settings. `jobs` notebooks run at a time, by default one per processor. `timeout` is the
    deadline of the run, `cell_timeout` of one cell. `progress` is called in this thread before each cell and after
    each notebook.

    Errors: InputError, SettingsError and SandboxError before anything runs; ReportError when the folder cannot be
    written; ReportNotSaved when that fails after the run; ReportInterrupted on Ctrl-C and SIGTERM.
    """
    started_at = datetime.now(UTC)
    settings = load(environment, running=True)
    acknowledged = acknowledgements.read(acknowledgements.path_of(settings))
    paths = _paths(notebooks)
    values = _parameters(parameters or {}, window, settings, environment)
    cell_seconds, run_seconds = duration_seconds(cell_timeout), duration_seconds(timeout)
    if min(cell_seconds, run_seconds) <= 0:
        raise InputError("deadlines must be greater than 0s", hint="--cell-timeout 2m --timeout 15m")
    declared = {path.stem: [cell.id for cell in read(path) if cell.is_question] for path in paths}
    parent, id_ = folder_of(settings, folder).absolute(), new_id(settings.name, started_at)
    own_folder = open_folder(parent, id_)
    interrupted = None
    try:
        results = execute(
            paths,
            parameters=values,
            out=own_folder,
            jobs=jobs if jobs is not None else os.cpu_count() or 1,
            cell_seconds=cell_seconds,
            run_seconds=run_seconds,
            progress=progress,
        )
    except Interrupted as error:
        results, interrupted = error.results, error
    except BaseException:
        with contextlib.suppress(OSError):
            own_folder.rmdir()  # removes an empty folder only: executed notebooks stay
        raise
    made = record(
        settings,
        results,
        id_=id_,
        started_at=started_at,
        declared=declared,
        judged=acknowledgements.mark_acknowledged(findings_of(results), acknowledged, settings.name),
        relative_to=own_folder,
    )
    try:
        page = save(made, html.page(made, settings), parent)
    except ReportError as error:
        raise ReportNotSaved(error.what, on=error.on, hint=error.hint, record=made) from None
    report = ReportResult(record=made, folder=own_folder, page=page)
    if interrupted:
        raise ReportInterrupted(report, interrupted.exit_code) from None
    return report


def _paths(notebooks: Sequence[str | Path]) -> list[Path]:
    paths = list(dict.fromkeys(find(str(notebook)).resolve() for notebook in notebooks))
    stems = [path.stem for path in paths]
    duplicate = next((stem for stem in stems if stems.count(stem) > 1), None)
    if duplicate:
        raise InputError(
            f"two notebooks are named {duplicate}", hint="rename one: their executed copies would have one name"
        )
    if not paths:
        raise InputError(
            "there are no notebooks to run", hint="if the shipped ones are missing, install the package again"
        )
    return paths


def _parameters(
    parameters: Mapping[str, object], window: str, settings: Settings, environment: str
) -> dict[str, object]:
    """Return the parameters of the run, including its environment and window."""
    values: dict[str, object] = {"environment": settings.name} | dict(parameters)
    if values["environment"] != settings.name:
        raise InputError("the environment cannot be set as a parameter", hint="--env NAME")
    if "/" in (environment or os.environ.get("XAI_RUNBOOK_ENV", "")):
        values["environment"] = settings.source  # the kernels cannot find the file by the name alone
    if window:
        values["window"] = window
    if "window" in values:  # raises here rather than in each cell with a chart
        Window.parse(str(values["window"]))
    return values
