"""Connections by state and over time, leaked connections, and PgBouncer's pools."""

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

MAX_WATCH_SECONDS = 3600.0

_BY_STATE = """
sum by (state) (${database_backends}) / scalar(
  sum(${database_max_connections} - ${database_reserved_connections})
)"""
_ALL_STATES = """
sum(${database_backends}) / scalar(
  sum(${database_max_connections} - ${database_reserved_connections})
)"""


def connections_by_state(database: Database) -> DataFrame:
    """Return the number of client sessions by database, role and state; for a pooler's numbers see `pool_status`.

    Columns: database, role, state, session_count, longest_state_seconds. Errors: AccessDenied if the role may not see
    other sessions. Source: runbook, Database Connection Errors; errata E68.
    """
    require_stats_privilege(database)
    return database.frame("connections_by_state")


def connections_history(prometheus: Prometheus, window: Window | str | None = None) -> DataFrame:
    """Return the share of connection slots in use over time, by state and in total.

    Columns: state ("all" for the total), at (UTC), value (0 to 1). Errors: NoData; those of Prometheus.
    Source: postgres_exporter, pg_stat_activity_count.
    """
    from pandas import concat

    from xai_runbook.model.window import Window
    from xai_runbook.operations.monitoring._series import existing

    if not isinstance(window, Window):
        window = Window.parse(window or prometheus.settings.windows.history)
    total = prometheus.range(prometheus.promql(_ALL_STATES), window)
    total = existing(total, prometheus.settings.metrics.database_backends, prometheus, "metrics.database_backends")
    by_state = prometheus.range(prometheus.promql(_BY_STATE), window)
    # the exporter has a series for every possible state, most of which are always 0
    by_state = by_state.astype({"state": str})
    used = by_state.groupby("state")["value"].transform("max") > 0
    return concat([total.assign(state="all"), by_state[used]], ignore_index=True)


def watch_connections(
    database: Database,
    *,
    interval: str = "5s",
    duration: str = "1m",
    on_sample: Callable[[DataFrame], object] | None = None,
) -> DataFrame:
    """Sample the connections in use for `duration`, or until Ctrl-C, and return one row per sample.

    All samples use one connection, which is open before the slots run out; the runbook's `watch psql` opens a new one
    for each. `on_sample` receives all rows so far after each sample.
    Columns: at (UTC), used_count, active_count, idle_count, idle_in_transaction_count, usable_count, used_ratio, error
    (why a sample failed; its numbers are missing then). Errors: InputError.
    Source: runbook, Connection Management; errata E37.
    """
    from pandas import DataFrame, Timestamp

    pause, seconds = duration_seconds(interval), duration_seconds(duration)
    if pause < 0.1 or seconds > MAX_WATCH_SECONDS:
        raise InputError(
            "interval must be at least 100ms, and duration at most 1h", on=f"interval {interval}, duration {duration}"
        )
    columns = ["at", "used_count", "active_count", "idle_count", "idle_in_transaction_count", "usable_count"]
    samples: list[dict[str, object]] = []

    def frame_of_samples() -> DataFrame:
        frame = DataFrame(samples, columns=[*columns, "error"])
        frame.insert(len(columns), "used_ratio", frame["used_count"] / frame["usable_count"])
        return frame

    end = time.monotonic() + seconds
    try:
        while True:
            try:
                require_stats_privilege(database)
                sample = {**database.rows("connection_sample")[0], "error": ""}
            except (CannotAsk, NotConfigured) as error:
                sample = {"at": Timestamp.now("UTC").to_pydatetime(), "error": inert(str(error), 200)}
            samples.append(sample)
            if on_sample is not None:
                on_sample(frame_of_samples())
            # at least two samples, however slow they are: one alone shows no trend
            if time.monotonic() + pause > end and (len(samples) > 1 or pause > seconds):
                return frame_of_samples()
            time.sleep(pause)
    except KeyboardInterrupt:  # possibly before the first sample
        return frame_of_samples()


def connection_leaks(database: Database, *, idle_for: str = "10m") -> DataFrame:
    """Return client sessions by application, role, client and database, those with the most idle ones first.

    Columns: target, application_name, role, client_address, database, session_count, idle_count (idle for at least
    `idle_for`, inside or outside a transaction), idle_in_transaction_count, longest_idle_seconds,
    opened_last_hour_count (of idle_count, which shows the growth). Errors: AccessDenied if the role may not see other
    sessions. Source: runbook, Database Connection Errors.
    """
    require_stats_privilege(database)
    leaks = database.frame("connection_leaks", {"idle_seconds": duration_seconds(idle_for)})
    application = leaks["application_name"].where(leaks["application_name"] != "", "unnamed")
    leaks.insert(0, "target", application + " as " + leaks["role"] + " from " + leaks["client_address"])
    return leaks


def check_connection_leaks(leaks: DataFrame, limit: Limit) -> Finding:
    """Return `alert` with the applications that hold more idle sessions than the limit."""
    if leaks.empty:  # the query succeeded, so ours is the only session
        status, summary = Status.OK, "no other session is open"
        return Finding(name=limit.name, status=status, severity=limit.severity, summary=summary, hint=limit.hint)
    grown = int(leaks["opened_last_hour_count"].max())
    noun = f"idle sessions ({grown} opened within the hour)" if grown else "idle sessions"
    return judge(limit, leaks, value="idle_count", target="target", noun=noun)


def pool_status(pooler: Pooler) -> DataFrame:
    """Return the state of each of PgBouncer's pools, one row per database and user, including its own console.

    Columns: target, database, role, mode, clients_active_count, clients_waiting_count, servers_active_count,
    servers_idle_count, longest_wait_seconds (of the client that has waited longest for a server connection),
    pool_size_count (server connections per pool of this database; missing if unlimited or unknown). Errors:
    Unreachable, TimedOut, AccessDenied, BadAnswer. Source: PgBouncer docs, SHOW POOLS, SHOW DATABASES; errata E68.
    """
    pools = pooler.show("pools")
    sizes = pooler.show("databases").set_index("name")["pool_size"]
    status = pools.rename(
        columns={
            "user": "role",
            "pool_mode": "mode",
            "cl_active": "clients_active_count",
            "cl_waiting": "clients_waiting_count",
            "sv_active": "servers_active_count",
            "sv_idle": "servers_idle_count",
        }
    )
    status["longest_wait_seconds"] = pools["maxwait"].astype(float) + pools["maxwait_us"].astype(float) / 1e6
    status["pool_size_count"] = pools["database"].map(sizes[sizes > 0].to_dict())
    status["target"] = status["database"] + " as " + status["role"]
    columns = ["target", "database", "role", "mode", "clients_active_count", "clients_waiting_count"]
    columns += ["servers_active_count", "servers_idle_count", "longest_wait_seconds", "pool_size_count"]
    return status[columns].sort_values("longest_wait_seconds", ascending=False, ignore_index=True)


def check_pool_waiting(pools: DataFrame, limit: Limit) -> Finding:
    """Return `alert` with the pools in which a client has waited for a server connection longer than the limit."""
    waiting = int(pools["clients_waiting_count"].sum()) if len(pools) else 0
    noun = f"waiting for a server connection ({waiting} client{'s' if waiting != 1 else ''} now)"
    return judge(limit, pools, value="longest_wait_seconds", target="target", noun=noun)
