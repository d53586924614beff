"""Grafana: does it answer, are the dashboards there, do they show anything. Runbook, Grafana Dashboards."""

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

Answers: TypeAlias = dict[str, tuple[float, str]]
"""How many series each query has, and why it could not be answered."""

_FIRST_SCRAPES = 4
AT_ONCE = 4
"""Queries that Prometheus is asked side by side: other people's dashboards wait meanwhile."""
DEFAULT_LOGIN = ("admin", "admin")
"""What the runbook writes down, and what a Grafana is born with (errata E17)."""


def dashboards(grafana: Grafana) -> DataFrame:
    """The dashboards that the settings name, as Grafana finds them: one row each, and one more for each double.

    Columns: title, uid, folder (its title, "" for none), url (to open it), found (how many there are: 1 is right, 0
    missing). A title counts whole, and with the uid and the folder where the settings say them.
    Errors: those of the client; a dashboard that we may not see is missing. Source: runbook, items 33 to 37; Grafana
    docs, HTTP API, Search; errata E18.
    """
    from pandas import DataFrame

    rows, every = [], grafana.search()
    for wanted in grafana.access.dashboard:
        hits = [
            hit
            for hit in every
            if hit["title"] == wanted.title
            and wanted.uid in (None, hit["uid"])
            and wanted.folder in (None, hit["folder"])
        ]
        # what it says itself of where it is may be another host, as its own root_url has it
        found = [{**hit, "url": f"{grafana.url}/d/{hit['uid']}"} for hit in hits]
        nothing = {"title": wanted.title, "uid": wanted.uid or "", "folder": wanted.folder or "", "url": ""}
        rows += [{**hit, "found": len(hits)} for hit in found or [nothing]]
    return DataFrame(rows, columns=["title", "uid", "folder", "url", "found"])


def check_dashboards(dashboards: DataFrame, limit: Limit) -> Finding:
    """`alert` where a dashboard is missing, or there is more than one of its title; `unknown` where none is named."""
    if dashboards.empty:
        return Finding.unknown(limit.name, "the settings name no dashboards", limit)
    by_title = {str(title): rows for title, rows in dashboards.groupby("title", sort=False)}
    missing = [title for title, rows in by_title.items() if limit.exceeded(float(rows["found"].iloc[0]))]
    doubled = {title: rows for title, rows in by_title.items() if len(rows) > 1}
    words = [f"missing, or not visible to our account: {', '.join(missing)}"] if missing else []
    for title, rows in doubled.items():
        places = [f"{uid} in {folder or 'no folder'}" for uid, folder in zip(rows["uid"], rows["folder"], strict=True)]
        words.append(f"{title}: found {len(rows)} times ({', '.join(places)})")
    return Finding(
        name=limit.name,
        status=Status.ALERT if words else Status.OK,
        severity=limit.severity,
        summary=inert("; ".join(words) or f"all {len(by_title)} dashboards exist, each exactly once"),
        hint=limit.hint,
        targets=tuple(inert(title, 200) for title in [*missing, *doubled]),
    )


def panels(grafana: Grafana, prometheus: Prometheus) -> DataFrame:
    """Every PromQL query of the dashboards that the settings name, asked of our Prometheus for this moment.

    Variables have the values that the dashboard was saved with, all where it has none. Hidden queries, and those of
    other kinds of data source, are not asked; those whose exporter the sandbox could not start are left out.
    Columns: panel ("dashboard / panel / query"), query, series (how many answer; missing where it could not be asked,
    or where Prometheus is younger than the time that it asks for), error.
    Errors: NoData where no dashboard is found or none has a query; those of the clients.
    """
    from pandas import DataFrame

    named = [row for row in dashboards(grafana).to_dict("records") if row["uid"] and row["found"]]
    asks: list[tuple[str, str, str]] = []
    rate = prometheus.settings.windows.rate
    for row in named:
        whole = grafana.dashboard(str(row["uid"]))
        found = [] if whole is None else queries.of(whole["dashboard"], rate=rate, step=prometheus.access.step)
        asks += [
            (inert(f"{row['title']} / {query.panel} / {query.name}", 200), query.promql, query.error) for query in found
        ]
    if not asks:
        raise NoData("there is no panel with a query", on=grafana.url, hint="see `dashboards` first: do they exist")
    answers = series(prometheus, [promql for _, promql, error in asks if not error])
    silent = {promql for promql, (found, _) in answers.items() if found == 0}
    asks = [ask for ask in asks if ask[1] not in silent or not prometheus.missing_exporter(ask[1])]
    if silent:
        answers = _unknown_while_young(answers, prometheus)
    columns = ["panel", "query", "series", "error"]
    return DataFrame(
        [(panel, promql, *answers.get(promql, (math.nan, error))) for panel, promql, error in asks], columns=columns
    )


def _unknown_while_young(answers: Answers, prometheus: Prometheus) -> Answers:
    """`answers`, with the empty ones unknown that look back past Prometheus' start."""
    age = prometheus_server.age_seconds(prometheus)
    scrapes = _FIRST_SCRAPES * duration_seconds(prometheus.access.step)
    reason = f"Prometheus started {duration_text(round(age))} ago"
    return {
        promql: (math.nan, reason) if found == 0 and age < queries.reach_seconds(promql) + scrapes else (found, error)
        for promql, (found, error) in answers.items()
    }


def series(prometheus: Prometheus, promql: Sequence[str]) -> Answers:
    """How many series each query has now, and why it could not be asked ("" where it could); each is asked once."""
    from xai_runbook.clients.http.deadline import side_by_side

    def one(query: str) -> tuple[float, str]:
        try:
            return float(len(prometheus.instant(query))), ""
        except InputError as error:
            return math.nan, error.what

    different = list(dict.fromkeys(promql))
    told: list[tuple[float, str]] = []
    for first in range(0, len(different), AT_ONCE):
        told += side_by_side([partial(one, query) for query in different[first : first + AT_ONCE]])
    return dict(zip(different, told, strict=True))


def check_panels(panels: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists the panels whose query has no series; `unknown` where one cannot be asked."""
    return judge(limit, panels, value="series", target="panel", noun="series in a panel's query")


def datasources(grafana: Grafana) -> DataFrame:
    """Grafana's own check of each of its data sources. For `check_datasources`.

    Columns: target (its name), uid, type, url (as seen from Grafana's machine), is_default, has_check (false where its
    kind has none), answers (1, 0 or missing), error, mend. Errors: NoData where there is none; AccessDenied: the right
    to read data sources is more than the role Viewer has. Source: Grafana docs, HTTP API, Data source.
    """
    from pandas import DataFrame

    found = grafana.datasources()
    if not found:
        raise NoData(
            "Grafana has no data source, so no dashboard can show data", on=grafana.url, hint="add Prometheus to it"
        )
    return DataFrame([_checked(grafana, source) for source in found])


def _checked(grafana: Grafana, source: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"target": source.pop("name"), **source, "has_check": True, "error": "", "mend": ""}
    try:
        status, words = grafana.datasource_health(source["uid"])
    except CannotAsk as error:
        return row | {"answers": math.nan, "error": inert(error.what), "mend": error.hint}
    answers = {"OK": 1.0, "ERROR": 0.0}.get(status, math.nan)
    return row | {
        "has_check": bool(status),
        "answers": answers,
        "error": "" if answers == 1 else words or "no reason given",
    }


def check_datasources(datasources: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists those that Grafana cannot reach; those of a kind without a check are left out."""
    return reachability.check_reachable(datasources[datasources["has_check"]], limit)


def default_login(grafana: Grafana, *, probe: bool = False) -> DataFrame:
    """One row: works (whether the login that the runbook writes down lets one in), tried once, and by a person only.

    Each try counts as a failed login, and a few of them lock the account: so no schedule tries it, and no report.
    Errors: NotConfigured without `probe`, which alarms nobody; Refused where nobody is there.
    Source: runbook, item 32; errata E17.
    """
    from pandas import DataFrame

    from xai_runbook.system import interactive

    if not probe:
        raise NotConfigured(
            "the default login is tried only when asked for",
            on="grafana default login",
            hint="set probe_default_login = True",
        )
    if not interactive.is_there():
        raise Refused(
            "the default login is not tried without a person: failed logins lock the account",
            on=grafana.url,
            hint="run it in a terminal or in JupyterLab",
        )
    user, password = DEFAULT_LOGIN
    return DataFrame([{"target": grafana.url, "user": user, "works": grafana.accepts_login(user, password)}])


def check_default_login(default_login: DataFrame) -> Finding:
    """`alert`, critical, where the login that the runbook writes down lets anybody in as administrator."""
    works = bool(default_login["works"].any())
    user, where = default_login["user"].iloc[0], default_login["target"].iloc[0]
    return Finding(
        name="default_login",
        status=Status.ALERT if works else Status.OK,
        severity=Severity.CRITICAL,
        summary=inert(
            f"{where} accepts {user} with the default password"
            if works
            else f"{where} rejects {user} with the default password (basic authentication may be disabled)"
        ),
        hint="change that password now (grafana cli admin reset-admin-password), then check who has logged in",
        targets=(str(where),) if works else (),
    )
