"""Connections as pools see them: who holds them, what a pooler does, who leaks them, and how large a pool may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from xai_runbook.errors import CannotAsk, InputError, NotConfigured, inert
from xai_runbook.model.findings import Finding, Limit, Status, judge
from xai_runbook.model.window import duration_seconds
from xai_runbook.operations.database.sessions import require_stats_privilege

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.pgbouncer import Pooler
    from xai_runbook.clients.postgres.reader import Database
    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.model.window import Window

LONGEST_WATCH_SECONDS = 3600.0

_BY_STATE = """
sum by (state) (${database_backends}) / scalar(
  sum(${database_max_connections} - ${database_reserved_connections})
)"""
_ALL_STATES = """
sum(${database_backends}) / scalar(
  sum(${database_max_connections} - ${database_reserved_connections})
)"""


def connections_by_state(database: Database) -> DataFrame:
    """Client sessions by database, role and state. Not a pool's numbers: those are `pool_status`.

    Columns: database, role, state, session_count, longest_state_seconds. Errors: AccessDenied where the role does not
    see other sessions. Source: runbook, Database Connection Errors; errata E68.
    """
    require_stats_privilege(database)
    return database.frame("connections_by_state")


def connections_history(prometheus: Prometheus, window: Window | str | None = None) -> DataFrame:
    """Client sessions by state over time, as a share of the slots that a client can have, and all of them together.

    Columns: state ("all" for the sum), at (UTC), value (0 to 1). Errors: NoData; those of Prometheus.
    Source: postgres_exporter, pg_stat_activity_count.
    """
    from pandas import concat

    from xai_runbook.model.window import Window
    from xai_runbook.operations.monitoring._series import existing

    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    every = prometheus.range(prometheus.promql(_ALL_STATES), window)
    every = existing(every, prometheus.settings.metrics.database_backends, prometheus, "metrics.database_backends")
    by_state = prometheus.range(prometheus.promql(_BY_STATE), window)
    # the exporter names every state there is, most of which nobody is ever in
    known = by_state.astype({"state": str})
    seen = known.groupby("state")["value"].transform("max") > 0
    return concat([every.assign(state="all"), known[seen]], ignore_index=True)


def watch_connections(
    database: Database,
    *,
    every: str = "5s",
    lasting: str = "1m",
    shown: Callable[[DataFrame], object] | None = None,
) -> DataFrame:
    """Looks again and again at the connections in use, and ends by itself or at Ctrl-C; one row a look.

    It asks by one connection, which it has before the slots run out, unlike the runbook's `watch psql`, which opens a
    new one for each look. `shown` is given all rows so far after each.
    Columns: at (UTC), used_count, active_count, idle_count, idle_in_transaction_count, usable_count, used_ratio, error
    (why a look failed; its numbers are missing then). Errors: InputError.
    Source: runbook, Connection Management; errata E37.
    """
    from pandas import DataFrame, Timestamp

    pause, seconds = duration_seconds(every), duration_seconds(lasting)
    if pause < 0.1 or seconds > LONGEST_WATCH_SECONDS:
        raise InputError("a watch looks every 100ms or more seldom, and ends within an hour", on=f"{every}, {lasting}")
    columns = ["at", "used_count", "active_count", "idle_count", "idle_in_transaction_count", "usable_count"]
    looks: list[dict[str, object]] = []

    def watched() -> DataFrame:
        frame = DataFrame(looks, columns=[*columns, "error"])
        frame.insert(len(columns), "used_ratio", frame["used_count"] / frame["usable_count"])
        return frame

    end = time.monotonic() + seconds
    try:
        while True:
            try:
                require_stats_privilege(database)
                look = {**database.rows("connections_watched")[0], "error": ""}
            except (CannotAsk, NotConfigured) as error:
                look = {"at": Timestamp.now("UTC").to_pydatetime(), "error": inert(str(error), 200)}
            looks.append(look)
            if shown is not None:
                shown(watched())
            # however long a look takes: one alone shows nothing of how it goes
            if time.monotonic() + pause > end and (len(looks) > 1 or pause > seconds):
                return watched()
            time.sleep(pause)
    except KeyboardInterrupt:  # the person has seen enough, perhaps before the first look
        return watched()


def connection_leaks(database: Database, *, idle_for: str = "10m") -> DataFrame:
    """Client sessions by who opened them, those with most forgotten ones first.

    Columns: target, application_name, role, client_address, database, session_count, idle_count (that have done
    nothing for `idle_for`, in or out of a transaction), idle_in_transaction_count, longest_idle_seconds,
    opened_last_hour_count (of idle_count: how fast they grow). Errors: AccessDenied where the role does not see other
    sessions. Source: runbook, Database Connection Errors.
    """
    require_stats_privilege(database)
    leaks = database.frame("connection_leaks", {"idle_seconds": duration_seconds(idle_for)})
    whom = leaks["application_name"].where(leaks["application_name"] != "", "unnamed")
    leaks.insert(0, "target", whom + " as " + leaks["role"] + " from " + leaks["client_address"])
    return leaks


def check_connection_leaks(leaks: DataFrame, limit: Limit) -> Finding:
    """`alert` that names the applications that hold more idle sessions than the limit allows."""
    if leaks.empty:  # the query answered: nobody but us is connected
        status, summary = Status.OK, "no other session is open"
        return Finding(name=limit.name, status=status, severity=limit.severity, summary=summary, hint=limit.hint)
    grown = int(leaks["opened_last_hour_count"].max())
    noun = f"sessions forgotten ({grown} opened within the hour)" if grown else "sessions forgotten"
    return judge(limit, leaks, value="idle_count", target="target", noun=noun)


def pool_status(pooler: Pooler) -> DataFrame:
    """What each pool of PgBouncer does now, one row a database and user; its own console is one of them.

    Columns: target, database, role, mode, clients_active_count, clients_waiting_count, servers_active_count,
    servers_idle_count, longest_wait_seconds (of the client that has waited longest for a server), pool_size_count
    (servers that a pool of this database may open; missing where unlimited or unknown). Errors: Unreachable, TimedOut,
    AccessDenied, BadAnswer. Source: PgBouncer docs, SHOW POOLS, SHOW DATABASES; errata E68.
    """
    pools = pooler.show("pools")
    sizes = pooler.show("databases").set_index("name")["pool_size"]
    told = pools.rename(
        columns={
            "user": "role",
            "pool_mode": "mode",
            "cl_active": "clients_active_count",
            "cl_waiting": "clients_waiting_count",
            "sv_active": "servers_active_count",
            "sv_idle": "servers_idle_count",
        }
    )
    told["longest_wait_seconds"] = pools["maxwait"].astype(float) + pools["maxwait_us"].astype(float) / 1e6
    told["pool_size_count"] = pools["database"].map(sizes[sizes > 0].to_dict())
    told["target"] = told["database"] + " as " + told["role"]
    columns = ["target", "database", "role", "mode", "clients_active_count", "clients_waiting_count"]
    columns += ["servers_active_count", "servers_idle_count", "longest_wait_seconds", "pool_size_count"]
    return told[columns].sort_values("longest_wait_seconds", ascending=False, ignore_index=True)


def check_pool_waiting(pools: DataFrame, limit: Limit) -> Finding:
    """`alert` that names the pools in which a client has waited for a server longer than the limit allows."""
    waiting = int(pools["clients_waiting_count"].sum()) if len(pools) else 0
    noun = f"waited for a server of the pool ({waiting} client{'s' if waiting != 1 else ''} now)"
    return judge(limit, pools, value="longest_wait_seconds", target="target", noun=noun)
