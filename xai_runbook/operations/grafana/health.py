"""Grafana's health: do the dashboards exist, do they show data. Source: runbook, Grafana Dashboards."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from xai_runbook.dashboards import queries
from xai_runbook.errors import CannotAsk, InputError, NoData, NotConfigured, Refused, inert
from xai_runbook.model.findings import Finding, Severity, Status, judge
from xai_runbook.model.window import duration_seconds, duration_text
from xai_runbook.operations import reachability
from xai_runbook.operations.monitoring import prometheus_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame

    from xai_runbook.clients.grafana import Grafana
    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.model.findings import Limit

SeriesCounts: TypeAlias = dict[str, tuple[float, str]]
"""By query: how many series it has, and the error if it could not be evaluated."""

_FIRST_SCRAPES = 4
"""A rate has a value only after a few scrapes."""
MAX_CONCURRENT = 4
"""Concurrent queries to Prometheus. Few, because other people's dashboards compete with them."""
DEFAULT_LOGIN = ("admin", "admin")
"""The login in the runbook, which is also the default of a new Grafana (errata E17)."""


def dashboards(grafana: Grafana) -> DataFrame:
    """Return the dashboards that the settings name, as found in Grafana: one row each, duplicates included.

    Columns: title, uid, folder (its title, "" for none), url (to open it), found (number of matches: 1 is right, 0 is
    missing). A match has exactly this title, and the uid and folder if the settings give them. A dashboard that our
    account may not see counts as missing.
    Source: runbook, items 33 to 37; Grafana docs, HTTP API, Search; errata E18.
    """
    from pandas import DataFrame

    rows, existing = [], grafana.search()
    for wanted in grafana.access.dashboard:
        hits = [
            hit
            for hit in existing
            if hit["title"] == wanted.title
            and wanted.uid in (None, hit["uid"])
            and wanted.folder in (None, hit["folder"])
        ]
        # Grafana's own links use its root_url, which may name another host
        found = [{**hit, "url": f"{grafana.url}/d/{hit['uid']}"} for hit in hits]
        missing = {"title": wanted.title, "uid": wanted.uid or "", "folder": wanted.folder or "", "url": ""}
        rows += [{**hit, "found": len(hits)} for hit in found or [missing]]
    return DataFrame(rows, columns=["title", "uid", "folder", "url", "found"])


def check_dashboards(dashboards: DataFrame, limit: Limit) -> Finding:
    """Return an alert if a dashboard is missing or exists more than once; unknown if the settings name none."""
    if dashboards.empty:
        return Finding.unknown(limit.name, "the settings name no dashboards", limit)
    by_title = {str(title): rows for title, rows in dashboards.groupby("title", sort=False)}
    missing = [title for title, rows in by_title.items() if limit.exceeded(float(rows["found"].iloc[0]))]
    duplicates = {title: rows for title, rows in by_title.items() if len(rows) > 1}
    problems = [f"missing, or not visible to our account: {', '.join(missing)}"] if missing else []
    for title, rows in duplicates.items():
        copies = [f"{uid} in {folder or 'no folder'}" for uid, folder in zip(rows["uid"], rows["folder"], strict=True)]
        problems.append(f"{title}: found {len(rows)} times ({', '.join(copies)})")
    return Finding(
        name=limit.name,
        status=Status.ALERT if problems else Status.OK,
        severity=limit.severity,
        summary=inert("; ".join(problems) or f"all {len(by_title)} dashboards exist, each exactly once"),
        hint=limit.hint,
        targets=tuple(inert(title, 200) for title in [*missing, *duplicates]),
    )


def panels(grafana: Grafana, prometheus: Prometheus) -> DataFrame:
    """Evaluate every PromQL query of the configured dashboards in our Prometheus, now.

    Variables have the values that the dashboard was saved with, or match everything. Hidden queries and queries of
    other data source types are skipped, and so are empty ones whose exporter the sandbox could not start.
    Columns: panel ("dashboard / panel / query"), query, series (count; NaN if the query failed, or if it is empty and
    looks back further than Prometheus' start), error.
    Errors: NoData if no dashboard is found or none has a query.
    """
    from pandas import DataFrame

    existing = [row for row in dashboards(grafana).to_dict("records") if row["uid"] and row["found"]]
    panel_queries: list[tuple[str, str, str]] = []
    rate = prometheus.settings.windows.rate
    for row in existing:
        live = grafana.dashboard(str(row["uid"]))
        found = [] if live is None else queries.panel_queries(live["dashboard"], rate=rate, step=prometheus.access.step)
        panel_queries += [
            (inert(f"{row['title']} / {query.panel} / {query.name}", 200), query.promql, query.error) for query in found
        ]
    if not panel_queries:
        raise NoData("there is no panel with a query", on=grafana.url, hint="see `dashboards` first: do they exist")
    answers = series_counts(prometheus, [promql for _, promql, error in panel_queries if not error])
    empty = {promql for promql, (count, _) in answers.items() if count == 0}
    panel_queries = [
        query for query in panel_queries if query[1] not in empty or not prometheus.missing_exporter(query[1])
    ]
    if empty:
        answers = _without_young(answers, prometheus)
    return DataFrame(
        [(panel, promql, *answers.get(promql, (math.nan, error))) for panel, promql, error in panel_queries],
        columns=["panel", "query", "series", "error"],
    )


def _without_young(answers: SeriesCounts, prometheus: Prometheus) -> SeriesCounts:
    """Replace a count of 0 by NaN where the query looks back further than Prometheus' start."""
    age = prometheus_server.age_seconds(prometheus)
    scrapes = _FIRST_SCRAPES * duration_seconds(prometheus.access.step)
    reason = f"Prometheus started {duration_text(round(age))} ago"

    def is_young(promql: str) -> bool:
        return age < queries.lookback_seconds(promql) + scrapes

    return {
        promql: (math.nan, reason) if count == 0 and is_young(promql) else (count, error)
        for promql, (count, error) in answers.items()
    }


def series_counts(prometheus: Prometheus, promql: Sequence[str]) -> SeriesCounts:
    """Count the series that each query has now; each different query is evaluated once."""
    from xai_runbook.clients.http.deadline import in_parallel

    def count(query: str) -> tuple[float, str]:
        try:
            return float(len(prometheus.instant(query))), ""
        except InputError as error:
            return math.nan, error.what

    different = list(dict.fromkeys(promql))
    counts: list[tuple[float, str]] = []
    for first in range(0, len(different), MAX_CONCURRENT):
        counts += in_parallel([partial(count, query) for query in different[first : first + MAX_CONCURRENT]])
    return dict(zip(different, counts, strict=True))


def check_panels(panels: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the panels whose query has no series; unknown if a query cannot be evaluated."""
    return judge(limit, panels, value="series", target="panel", noun="series in a panel's query")


def datasources(grafana: Grafana) -> DataFrame:
    """Run Grafana's own health check of each of its data sources.

    Columns: target (its name), uid, type, url (as seen from Grafana's host), is_default, has_check (False if its type
    has no health check), answers (1, 0 or NaN), error, hint.
    Errors: NoData if there is no data source; AccessDenied, as the role Viewer may not read data sources.
    Source: Grafana docs, HTTP API, Data source.
    """
    from pandas import DataFrame

    sources = grafana.datasources()
    if not sources:
        raise NoData(
            "Grafana has no data source, so no dashboard can show data", on=grafana.url, hint="add Prometheus to it"
        )
    return DataFrame([_datasource_row(grafana, source) for source in sources])


def _datasource_row(grafana: Grafana, source: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"target": source.pop("name"), **source, "has_check": True, "error": "", "hint": ""}
    try:
        status, message = grafana.datasource_health(source["uid"])
    except CannotAsk as error:
        return row | {"answers": math.nan, "error": inert(error.what), "hint": error.hint}
    answers = {"OK": 1.0, "ERROR": 0.0}.get(status, math.nan)
    return row | {
        "has_check": bool(status),
        "answers": answers,
        "error": "" if answers == 1 else message or "no reason given",
    }


def check_datasources(datasources: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the data sources that Grafana cannot reach; types without a check are ignored."""
    return reachability.check_reachable(datasources[datasources["has_check"]], limit)


def default_login(grafana: Grafana, *, probe: bool = False) -> DataFrame:
    """Try the default login once and return one row with target, user, works (bool).

    A rejected try counts as a failed login, and a few of them lock the account. Therefore only a person may run it,
    never a schedule or a report.
    Errors: NotConfigured without `probe`; Refused if no person is present. Source: runbook, item 32; errata E17.
    """
    from pandas import DataFrame

    from xai_runbook.system import interactive

    if not probe:
        raise NotConfigured(
            "the default login is tried only when asked for",
            on="grafana default login",
            hint="set probe_default_login = True",
        )
    if not interactive.is_interactive():
        raise Refused(
            "the default login is not tried without a person: failed logins lock the account",
            on=grafana.url,
            hint="run it in a terminal or in JupyterLab",
        )
    user, password = DEFAULT_LOGIN
    return DataFrame([{"target": grafana.url, "user": user, "works": grafana.accepts_login(user, password)}])


def check_default_login(default_login: DataFrame) -> Finding:
    """Return a critical alert if the default login works, because it is an administrator's."""
    works = bool(default_login["works"].any())
    user, url = default_login["user"].iloc[0], default_login["target"].iloc[0]
    return Finding(
        name="default_login",
        status=Status.ALERT if works else Status.OK,
        severity=Severity.CRITICAL,
        summary=inert(
            f"{url} accepts {user} with the default password"
            if works
            else f"{url} rejects {user} with the default password (basic authentication may be disabled)"
        ),
        hint="change that password now (grafana cli admin reset-admin-password), then check who has logged in",
        targets=(str(url),) if works else (),
    )
