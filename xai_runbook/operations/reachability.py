"""Whether each part answers: the first question of every section, and what `xai-runbook ping` shows.

A part that refuses the connection or does not answer in time is down: `answers` is 0. If it rejects our login, or
something else answers at its address, its state is unknown: `answers` is NaN and `error` says why. Every query here
returns one row per target with the columns

    target, answers (1, 0 or NaN), detail (version, the role we use), seconds (duration of the request), error, hint
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from xai_runbook.errors import CannotAsk, SettingsError, TimedOut, Unreachable, XaiRunbookError, inert
from xai_runbook.model.findings import Finding, Limit, Status

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.alertmanager import Alertmanager
    from xai_runbook.clients.cache import Cache
    from xai_runbook.clients.grafana import Grafana
    from xai_runbook.clients.nodes import NodeFacts, Nodes
    from xai_runbook.clients.postgres.pgbouncer import Pooler
    from xai_runbook.clients.postgres.reader import Database
    from xai_runbook.clients.prometheus.client import Prometheus

_COLUMNS = ("target", "answers", "detail", "seconds", "error", "hint")


def prometheus(prometheus: Prometheus) -> DataFrame:
    """Return whether Prometheus answers, with its version.

    Source: Prometheus docs, HTTP API, Build Information; the runbook's 9091 is normally the Pushgateway's port.
    """
    return _request(prometheus.url, lambda: f"Prometheus {prometheus.buildinfo()['version']}")


def alertmanager(alertmanager: Alertmanager) -> DataFrame:
    """Return whether Alertmanager answers, with its version and cluster status.

    Without Alertmanager no alert reaches anybody. Source: erratum E23.
    """

    def ask() -> str:
        status = alertmanager.status()
        return f"Alertmanager {status['version']}, cluster {status['cluster']}"

    return _request(alertmanager.url, ask)


def database(database: Database) -> DataFrame:
    """Return whether the database accepts our login and answers a query, with its version and our role.

    Checks more than the runbook's pg_isready, which succeeds for unknown users, unknown databases and a full server.
    Source: runbook, Database Connection Errors.
    """

    def ask() -> str:
        row = database.frame("identity").iloc[0]
        standby = ", a standby" if row["in_recovery"] else ""
        return f"PostgreSQL {row['version']} as {row['role']}, system_identifier {row['system_identifier']}{standby}"

    return _request(database.address, ask)


def pooler(pooler: Pooler) -> DataFrame:
    """Return whether PgBouncer's console accepts our login, with its version."""
    return _request(pooler.address, lambda: str(pooler.show("version").iloc[0, 0]))


def cache(cache: Cache) -> DataFrame:
    """Return whether the cache answers INFO, with its version."""

    def ask() -> str:
        info = cache.info()
        kind = "valkey" if "valkey_version" in info else "redis"
        return f"{kind.capitalize()} {info.get(f'{kind}_version', '?')}"

    return _request(cache.address, ask)


def grafana(grafana: Grafana) -> DataFrame:
    """Return whether Grafana answers and reaches its own database, with its version.

    Source: runbook, item 31; Grafana docs, HTTP API, Health; errata E16.
    """

    def ask() -> str:
        health = grafana.health()
        if health["database"] != "ok":  # without its database Grafana shows nothing
            message = f"its own database is not ok: {inert(health['database'], 80)}"
            raise Unreachable(message, on=grafana.url, hint="read Grafana's log and check the disk of its database")
        return f"Grafana {health['version'] or '(version hidden)'}"

    return _request(grafana.url, ask)


def nodes(nodes: Nodes) -> DataFrame:
    """Return whether each of our nodes answers, with its height. Source: runbook, Blockchain Sync Issues."""
    return _height_replies(nodes.facts("height"))


def reference_nodes(nodes: Nodes) -> DataFrame:
    """Return whether each reference node answers, with its height."""
    return _height_replies(nodes.reference_facts("height"))


def check_reachable(reachability: DataFrame, limit: Limit) -> Finding:
    """Return an alert that lists the targets that do not answer, with the error; unknown if one cannot be checked."""
    rows = [
        (inert(str(row["target"]), 200), float(row["answers"]), f"{row['error'] or 'no reason given'}", row["hint"])
        for row in reachability.to_dict("records")
    ]
    if not rows:
        return Finding.unknown(limit.name, "there is no target", limit)
    unchecked = [row for row in rows if math.isnan(row[1])]
    down = [row for row in rows if not math.isnan(row[1]) and limit.exceeded(row[1])]
    doubts = "; ".join(f"{target} cannot be checked: {error}" for target, _, error, _ in unchecked)
    if down:
        count = f"{len(down)} of {len(rows)}: " if len(rows) > 1 else ""
        failures = "; ".join(f"{target} does not answer: {error}" for target, _, error, _ in down)
        status, summary, wrong = Status.ALERT, f"{count}{failures}{'; ' if doubts else ''}{doubts}", down
    elif unchecked:
        status, summary, wrong = Status.UNKNOWN, f"unknown, because {doubts}", unchecked
    else:
        status, summary, wrong = Status.OK, f"all {len(rows)} answer" if len(rows) > 1 else f"{rows[0][0]} answers", []
    # for an unexpected answer, the error's own hint is more specific than the limit's
    hint = next((mend for *_, mend in wrong if mend), limit.hint) if status is Status.UNKNOWN else limit.hint
    return Finding(
        name=limit.name,
        status=status,
        severity=limit.severity,
        summary=inert(summary),
        hint=inert(hint),
        targets=tuple(target for target, *_ in wrong),
    )


def _request(target: str, ask: Callable[[], str]) -> DataFrame:
    """Return the one row of a target; `ask` sends the request and returns the detail."""
    started = time.monotonic()
    error: XaiRunbookError | None
    try:
        detail, error = ask(), None
    except (CannotAsk, SettingsError) as failure:
        detail, error = "", failure
    return _frame([_row(target, detail, time.monotonic() - started, error)])


def _height_replies(answers: list[NodeFacts]) -> DataFrame:
    return _frame(
        [
            _row(facts.node, "" if facts.error else f"height {facts.values['height']}", facts.seconds, facts.error)
            for facts in answers
        ]
    )


def _row(target: str, detail: str, seconds: float, error: XaiRunbookError | None) -> dict[str, object]:
    down = isinstance(error, Unreachable | TimedOut)
    return {
        "target": target,
        "answers": 1.0 if error is None else 0.0 if down else math.nan,
        "detail": inert(detail, 200),
        "seconds": seconds,
        "error": inert(error.what) if error else "",
        "hint": error.hint if error else "",
    }


def _frame(rows: list[dict[str, object]]) -> DataFrame:
    from pandas import DataFrame

    return DataFrame(rows, columns=list(_COLUMNS))
