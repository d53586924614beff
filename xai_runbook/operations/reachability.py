"""Whether each part answers: the first question of every section, and what `xai-runbook ping` shows.

Down is known: a part that refuses or does not answer in time is a row with `answers` 0. Where it answers but we are
not let in, or something else answers, whether the part is well cannot be told: `answers` is missing, and `error` says
why. Every frame here has one row a target and the columns

    target, answers (1, 0 or missing), detail (version, as whom we ask), seconds (until the whole answer), error, mend
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

_COLUMNS = ("target", "answers", "detail", "seconds", "error", "mend")


def of_prometheus(prometheus: Prometheus) -> DataFrame:
    """One row: whether Prometheus answers, and as which version. Columns as the module says.

    Source: Prometheus docs, HTTP API, Build Information; the runbook's 9091 is normally the Pushgateway's port.
    """
    return _asked(prometheus.url, lambda: f"Prometheus {prometheus.buildinfo()['version']}")


def of_alertmanager(alertmanager: Alertmanager) -> DataFrame:
    """One row: whether the Alertmanager answers, and as which version. Columns as the module says.

    Without it an alert reaches nobody, and nobody is told so. Source: erratum E23.
    """

    def ask() -> str:
        told = alertmanager.status()
        return f"Alertmanager {told['version']}, cluster {told['cluster']}"

    return _asked(alertmanager.url, ask)


def of_database(database: Database) -> DataFrame:
    """One row: whether the database lets us in and answers a query, and as whom. Columns as the module says.

    Deeper than the runbook's pg_isready, which says yes to unknown users, unknown databases and a full server.
    Source: runbook, Database Connection Errors.
    """

    def ask() -> str:
        who = database.frame("identity").iloc[0]
        standby = ", a standby" if who["in_recovery"] else ""
        return f"PostgreSQL {who['version']} as {who['role']}, system_identifier {who['system_identifier']}{standby}"

    return _asked(database.address, ask)


def of_pooler(pooler: Pooler) -> DataFrame:
    """One row: whether PgBouncer's console lets us in, and as which version. Columns as the module says."""
    return _asked(pooler.address, lambda: str(pooler.show("version").iloc[0, 0]))


def of_cache(cache: Cache) -> DataFrame:
    """One row: whether the cache answers INFO, and as which version. Columns as the module says."""

    def ask() -> str:
        info = cache.info()
        kind = "valkey" if "valkey_version" in info else "redis"
        return f"{kind.capitalize()} {info.get(f'{kind}_version', '?')}"

    return _asked(cache.address, ask)


def of_grafana(grafana: Grafana) -> DataFrame:
    """One row: whether Grafana answers and reaches its own database, and as which version. Columns as the module says.

    Source: runbook, item 31; Grafana docs, HTTP API, Health; errata E16.
    """

    def ask() -> str:
        told = grafana.health()
        if told["database"] != "ok":  # it answers, and shows nobody anything
            message = f"its own database is not ok: {inert(told['database'], 80)}"
            raise Unreachable(message, on=grafana.url, hint="read Grafana's log and check the disk of its database")
        return f"Grafana {told['version'] or '(version hidden)'}"

    return _asked(grafana.url, ask)


def of_nodes(nodes: Nodes) -> DataFrame:
    """One row a node of ours: whether it answers with its height. Columns as the module says.

    Source: runbook, Blockchain Sync Issues.
    """
    return _told(nodes.facts("height"))


def of_references(nodes: Nodes) -> DataFrame:
    """One row a reference node: whether it answers with its height. Columns as the module says."""
    return _told(nodes.reference_facts("height"))


def check_reachable(reachability: DataFrame, limit: Limit) -> Finding:
    """`alert` that lists the targets that do not answer and why; `unknown` where that could not be told."""
    rows = [
        (inert(str(row["target"]), 200), float(row["answers"]), f"{row['error'] or 'no reason given'}", row["mend"])
        for row in reachability.to_dict("records")
    ]
    if not rows:
        return Finding.unknown(limit.name, "there is no target", limit)
    untold = [row for row in rows if math.isnan(row[1])]
    down = [row for row in rows if not math.isnan(row[1]) and limit.exceeded(row[1])]
    doubts = "; ".join(f"{target} cannot be checked: {error}" for target, _, error, _ in untold)
    if down:
        who = f"{len(down)} of {len(rows)}: " if len(rows) > 1 else ""
        words = "; ".join(f"{target} does not answer: {error}" for target, _, error, _ in down)
        status, summary, wrong = Status.ALERT, f"{who}{words}{'; ' if doubts else ''}{doubts}", down
    elif untold:
        status, summary, wrong = Status.UNKNOWN, f"unknown, because {doubts}", untold
    else:
        status, summary, wrong = Status.OK, f"all {len(rows)} answer" if len(rows) > 1 else f"{rows[0][0]} answers", []
    # where it answers but is not what it should be, what to mend is known better than the limit's general hint
    hint = next((mend for *_, mend in wrong if mend), limit.hint) if status is Status.UNKNOWN else limit.hint
    return Finding(
        name=limit.name,
        status=status,
        severity=limit.severity,
        summary=inert(summary),
        hint=inert(hint),
        targets=tuple(target for target, *_ in wrong),
    )


def _asked(target: str, ask: Callable[[], str]) -> DataFrame:
    started = time.monotonic()
    error: XaiRunbookError | None
    try:
        detail, error = ask(), None
    except (CannotAsk, SettingsError) as failure:
        detail, error = "", failure
    return _frame([_row(target, detail, time.monotonic() - started, error)])


def _told(answers: list[NodeFacts]) -> DataFrame:
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
        "mend": error.hint if error else "",
    }


def _frame(rows: list[dict[str, object]]) -> DataFrame:
    from pandas import DataFrame

    return DataFrame(rows, columns=list(_COLUMNS))
