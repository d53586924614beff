"""The page of a record: one self-contained HTML file without scripts, in which every text is escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from xai_runbook.errors import inert
from xai_runbook.model.display.html_fragments import THEMES, page_colours
from xai_runbook.model.findings import Finding, Limit, Status
from xai_runbook.reports.report import Record, version
from xai_runbook.reports.runner.result import Chart
from xai_runbook.reports.terminal import blocked_text

if TYPE_CHECKING:
    from jinja2 import Template

    from xai_runbook.settings.models import Settings

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class _FindingView:
    """A finding with its title, limit and charts."""

    finding: Finding
    title: str
    limit: Limit | None
    charts: tuple[Chart, ...]


def page(record: Record, settings: Settings) -> str:
    """Return the page as HTML: verdict, findings worst first, charts, limits, notebooks, contacts."""
    limits = settings.limits.by_name
    views = [_view(finding, limits, record) for finding in record.findings]
    unblocked = {finding.name for finding in record.unblocked}
    problems = [
        view
        for view in views
        if not view.finding.acknowledged and view.finding.status is not Status.OK and view.finding.name in unblocked
    ]
    known = {finding.name for finding in record.findings}
    other_charts = [(name, chart) for name, charts in record.charts.items() if name not in known for chart in charts]
    return _template().render(
        policy=POLICY,
        colours={theme: _css(page_colours(theme)) for theme in THEMES},
        record=record,
        tool=version(),
        headline=_headline(record),
        problems=problems,
        missing=[
            (part, record.missing[part], blocked_text(names) if names else "")
            for part, names in record.blocked_by_part.items()
        ],
        acknowledged=[view for view in views if view.finding.acknowledged],
        ok=[view for view in views if not view.finding.acknowledged and view.finding.status is Status.OK],
        other_charts=other_charts,
        limits=list(limits.values()),
        levels={view.finding.name: view.finding.level for view in views},
        contacts=settings.contacts,
    )


def _css(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def _view(finding: Finding, limits: dict[str, Limit], record: Record) -> _FindingView:
    limit = limits.get(finding.name)
    title = limit.title if limit else finding.name.replace("_", " ").capitalize()
    return _FindingView(finding, title, limit, record.charts.get(finding.name, ()))


def _headline(record: Record) -> str:
    """Return the counts behind the verdict in one sentence."""
    total = len(record.findings)
    counted = [finding for finding in record.findings if not finding.acknowledged]
    alerts = sum(finding.status is Status.ALERT for finding in counted)
    unknown = sum(finding.status is Status.UNKNOWN for finding in counted)
    parts = [f"{alerts} alert{'s' * (alerts != 1)}"] * bool(alerts)
    parts += [f"{unknown} unknown"] * bool(unknown)
    parts += [f"{total - len(counted)} acknowledged"] * (len(counted) < total)
    ok = f"{len(counted) - alerts - unknown} ok" if parts else "all ok"
    text = f"{total} question{'s' * (total != 1)}: {', '.join([*parts, ok])}." if total else "No question was answered."
    return text if record.complete else f"{text} The report is not complete."


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
