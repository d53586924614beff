"""The page of a record: one self-contained HTML file without scripts, in which every text is escaped."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from xai_runbook.errors import inert
from xai_runbook.model.findings import Finding, Limit, Status
from xai_runbook.reports.report import Record, version
from xai_runbook.reports.runner.result import Chart
from xai_runbook.reports.terminal import unasked, word

if TYPE_CHECKING:
    from jinja2 import Template

    from xai_runbook.settings.models import Settings

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class _Shown:
    """A finding with its title, limit and charts."""

    finding: Finding
    word: str
    title: str
    limit: Limit | None
    charts: tuple[Chart, ...]


def page(made: Record, settings: Settings) -> str:
    """Return the page as HTML: verdict, findings worst first, charts, limits, notebooks, contacts."""
    limits = settings.limits.by_name
    shown = [_shown(finding, limits, made) for finding in made.findings]
    apart = {finding.name for finding in made.apart}
    pending = [
        one
        for one in shown
        if not one.finding.acknowledged and one.finding.status is not Status.OK and one.finding.name in apart
    ]
    told = {finding.name for finding in made.findings}
    stray = [(name, chart) for name, charts in made.charts.items() if name not in told for chart in charts]
    return _template().render(
        policy=POLICY,
        record=made,
        tool=version(),
        headline=_headline(made),
        pending=pending,
        missing=[(part, made.missing[part], unasked(names) if names else "") for part, names in made.unasked.items()],
        acknowledged=[one for one in shown if one.finding.acknowledged],
        well=[one for one in shown if not one.finding.acknowledged and one.finding.status is Status.OK],
        stray=stray,
        limits=list(limits.values()),
        words={one.finding.name: one.word for one in shown},
        contacts=settings.contacts,
    )


def _shown(finding: Finding, limits: dict[str, Limit], made: Record) -> _Shown:
    limit = limits.get(finding.name)
    title = limit.title if limit else finding.name.replace("_", " ").capitalize()
    return _Shown(finding, word(finding), title, limit, made.charts.get(finding.name, ()))


def _headline(made: Record) -> str:
    """Return the counts behind the verdict in one sentence."""
    every = len(made.findings)
    counted = [finding for finding in made.findings if not finding.acknowledged]
    alerts = sum(finding.status is Status.ALERT for finding in counted)
    unknown = sum(finding.status is Status.UNKNOWN for finding in counted)
    parts = [f"{alerts} alert{'s' * (alerts != 1)}"] * bool(alerts)
    parts += [f"{unknown} unknown"] * bool(unknown)
    parts += [f"{every - len(counted)} acknowledged"] * (len(counted) < every)
    well = f"{len(counted) - alerts - unknown} ok" if parts else "all ok"
    text = (
        f"{every} question{'s' * (every != 1)}: {', '.join([*parts, well])}." if every else "No question was answered."
    )
    return text if made.complete else f"{text} The report is not complete."


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = lambda chart: f"data:image/png;base64,{base64.b64encode(chart.png).decode()}"
    environment.filters["utc"] = lambda instant: f"{instant:%Y-%m-%d %H:%M:%S} UTC"
    environment.filters["clock"] = lambda text: str(text).replace("T", " ").replace("+00:00", " UTC")
    environment.filters["inert"] = lambda text: inert(str(text))
    environment.filters["section"] = section_title
    environment.filters["link"] = lambda path: quote(str(path))
    return environment.get_template("page.html.j2")


def section_title(notebook: object) -> str:
    """Return the heading for a notebook's findings: "Backup restore" for 03b_backup_restore."""
    return re.sub(r"^\d+[a-z]?_", "", str(notebook)).replace("_", " ").strip().capitalize() or "Other"
