"""Connection, readiness and client sessions; plans that cancel statements and terminate sessions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xai_runbook.errors import AccessDenied, CannotAsk, InputError, inert
from xai_runbook.model.findings import Finding, Limit, judge
from xai_runbook.model.plans import Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.model.secret import MASK

_TLS = {
    "disable": "not encrypted",
    "allow": "encrypted only if the server requires it",
    "prefer": "encrypted only if the server supports it",
    "require": "encrypted, but the server is not verified",
    "verify-ca": "encrypted; the certificate is verified, but not its host name",
    "verify-full": "encrypted; certificate and host name are verified",
}

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database


def connection(database: Database) -> DataFrame:
    """Return the connection as libpq's keywords, and the psql command for it, without the password.

    Columns: keyword, value, remark. The runbook's URI contains the password, which `ps`, the shell's history and errors
    can show, and no sslmode, so that no certificate is verified; its psql lines name no host, user or database.
    Source: runbook, Connect to Database; errata E24 to E26; PostgreSQL docs, Parameter Key Words.
    """
    from pandas import DataFrame

    settings = database.settings
    rows: list[tuple[str, str, str]] = []
    if settings.service:
        rows.append(("service", settings.service, "host and port from ~/.pg_service.conf"))
    else:
        route = "the proxy: queries only" if database.proxied else "direct"
        if settings.bastion:
            route = f"through bastion {settings.bastion.host}"
        rows += [("host", settings.host, route), ("port", str(settings.port), "")]
    rows += [("dbname", settings.dbname, ""), ("user", settings.user, "read-only")]
    known = settings.password is not None
    rows.append(("password", MASK if known else "", "never in a command line" if known else "from ~/.pgpass"))
    rows.append(("sslmode", settings.sslmode, _TLS[settings.sslmode]))
    conninfo = " ".join(f"{key}={value}" for key, value, _ in rows if value and key != "password")
    rows.append(("in a shell", f'psql "{conninfo}"', "asks for the password, or finds it in ~/.pgpass"))
    return DataFrame(rows, columns=["keyword", "value", "remark"])


def identity(database: Database) -> DataFrame:
    """Return one row: which server answers, and which role we have.

    Columns: system_identifier, database, write_privileges (empty: the role can change nothing), role, server_address,
    server_port, version, in_recovery, started_at, database_oid. Source: PostgreSQL docs, pg_control_system.
    """
    return database.frame("identity")


def readiness(database: Database) -> DataFrame:
    """Return one row: whether the server accepts connections, logins and queries; pg_isready shows only the first.

    Columns: target, accepts (as pg_isready reports it), can_login, can_query, in_recovery, slots_free (for ordinary
    clients), used_reserved_slot (our login took a reserved slot, since no other was free), latency_seconds (login and
    query), error. If a step fails, those after it are missing and `error` says why.
    Source: runbook, Database Connection Errors; errata E67; PostgreSQL docs, PQping.
    """
    from pandas import DataFrame

    row: dict[str, object] = {"target": database.address, "accepts": database.ping(), "can_login": False}
    started = time.monotonic()
    try:
        slots = database.rows("readiness")[0]
        row |= {"can_login": True, "can_query": True, **slots, "latency_seconds": time.monotonic() - started}
        row["error"] = ""
    except CannotAsk as error:
        row["error"] = inert(str(error))
    columns = ("can_query", "in_recovery", "slots_free", "used_reserved_slot", "latency_seconds")
    order = ["target", "accepts", "can_login", *columns, "error"]
    return DataFrame([row], columns=order)


def require_stats_privilege(database: Database) -> None:
    """Raise AccessDenied unless our role may see other roles' sessions (pg_read_all_stats).

    Without that privilege they are hidden, and counts are wrong. Source: errata E35; PostgreSQL docs, Predefined
    Roles.
    """
    if database.rows("stats_privilege")[0]["reads_all_stats"] is not True:
        raise AccessDenied(
            "the role may not see other roles' sessions",
            on=database.address,
            hint="GRANT pg_monitor to the role in database.user",
        )


def connections(database: Database) -> DataFrame:
    """Return one row: client connections in use, and the number that ordinary clients can have.

    Columns: target, used (count), usable (count: max_connections minus reserved slots), used_ratio (0 to 1).
    Errors: AccessDenied if the role may not see other sessions.
    Source: runbook, Connection Management; PostgreSQL docs, max_connections, reserved_connections.
    """
    require_stats_privilege(database)
    counts = database.frame("connections")
    counts.insert(0, "target", database.dbname)
    return counts.assign(used_ratio=counts["used"] / counts["usable"])


def sessions(database: Database, *, max_rows: int = 50) -> DataFrame:
    """Return client sessions, those longest in their state first; at most `max_rows`.

    Columns: pid, database, role, application_name, client_address, state, wait_event_type, wait_event, state_seconds,
    transaction_seconds, started_at, query (its first 80 characters, without literals).
    Errors: AccessDenied if the role may not see other sessions.
    Source: runbook, Connection Management; PostgreSQL docs, pg_stat_activity.
    """
    require_stats_privilege(database)
    return database.frame("sessions", {"max_rows": max_rows})


def check_pool(connections: DataFrame, limit: Limit) -> Finding:
    """Return `alert` if the share of usable connections in use exceeds the limit."""
    used, usable = connections[["used", "usable"]].iloc[0]
    return judge(limit, connections, value="used_ratio", target="target", noun=f"in use ({used} of {usable})")


MAX_SESSIONS = 10


@change
def terminate(database: Database, *, pids: list[int]) -> Plan:
    """Plan to terminate exactly these client sessions of this database, at most MAX_SESSIONS.

    Each is terminated only if it is still the same session, by its pid and start time. The runbook's line terminates
    all sessions of all databases, including replication and background processes, and stops half way at the first
    that the role may not terminate. Try `cancel` first. Errors: InputError for pids that are not such sessions.
    Source: runbook, Connection Management; PostgreSQL docs, pg_terminate_backend.
    """
    if database.proxied:
        return _refused_through_proxy("terminate")
    rows = _sessions(database, "sessions_by_pid", pids, "client sessions")
    return Plan(
        verb="terminate",
        scope=database.dbname,
        targets=tuple(f"session {row['pid']} of {row['role']} ({row['application_name']})" for row in rows),
        observed=tuple(rows),
        steps=tuple(
            Sql(
                name="terminate_session",
                parameters={"pid": row["pid"], "backend_start": row["backend_start"]},
                equivalent=f'psql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {row["pid"]}'
                f" AND backend_start = '{row['backend_start']}'\"",
            )
            for row in rows
        ),
        note="" if rows else "no session was named",
        expected=None
        if not rows
        else Condition.of(
            remaining_sessions,
            sessions=[f"{row['pid']} {row['backend_start']}" for row in rows],
            column="left_count",
            comparison="==",
            value="0",
            within="5s",
            description="the sessions have gone",
        ),
        undo="cannot be undone: clients may reconnect; their open transactions are rolled back",
        risk=Risk.DESTRUCTIVE,
    )


@change
def cancel(database: Database, *, pids: list[int]) -> Plan:
    """Plan to cancel exactly the statements that these sessions are running; the sessions stay.

    Each is cancelled only if it is still the same statement, by pid, session start and statement start.
    Errors: InputError for pids that run no statement in this database.
    Source: runbook, Connection Management; PostgreSQL docs, pg_cancel_backend.
    """
    if database.proxied:
        return _refused_through_proxy("cancel")
    rows = _sessions(database, "statements_by_pid", pids, "sessions that run a statement")
    return Plan(
        verb="cancel",
        scope=database.dbname,
        targets=tuple(
            f"statement of session {row['pid']} of {row['role']} ({row['application_name']})" for row in rows
        ),
        observed=tuple(rows),
        steps=tuple(
            Sql(
                name="cancel_statement",
                parameters={key: row[key] for key in ("pid", "backend_start", "query_start")},
                equivalent=f'psql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = {row["pid"]}'
                f" AND query_start = '{row['query_start']}'\"",
            )
            for row in rows
        ),
        note="" if rows else "no session was named",
        expected=None
        if not rows
        else Condition.of(
            remaining_statements,
            statements=[f"{row['pid']} {row['backend_start']} {row['query_start']}" for row in rows],
            column="left_count",
            comparison="==",
            value="0",
            within="5s",
            description="the statements have ended",
        ),
        undo="cannot be undone: the client gets an error, and its transaction is rolled back",
        risk=Risk.CHANGE,
    )


def remaining_sessions(database: Database, *, sessions: list[str]) -> DataFrame:
    """Return one row: left_count, how many of these sessions ("PID START", the start in ISO UTC) still exist."""
    return database.frame("remaining_sessions", {"sessions": sessions})


def remaining_statements(database: Database, *, statements: list[str]) -> DataFrame:
    """Return one row: left_count, how many of these statements ("PID START STATEMENT_START") are still running."""
    return database.frame("remaining_statements", {"statements": statements})


def _refused_through_proxy(verb: str) -> Plan:
    return refused_plan(verb, "through a proxy, each transaction may run in another client's session (E24)")


def _sessions(database: Database, query: str, pids: list[int], what: str) -> list[dict[str, str | None]]:
    """Return the rows of exactly these pids, as scalars for a plan."""
    if not pids:
        return []
    if len(pids) > MAX_SESSIONS or len(set(pids)) != len(pids) or not all(type(pid) is int for pid in pids):
        raise InputError(
            f"pids must be at most {MAX_SESSIONS} different integers",
            on=database.address,
            hint="see database.sessions; terminating all sessions is not supported",
        )
    rows = [facts(row) for row in database.rows(query, {"pids": pids})]
    gone = sorted(set(pids) - {int(row["pid"] or 0) for row in rows})
    if gone:
        raise InputError(
            f"not {what} of this database: {', '.join(map(str, gone))}"
            " (ended, our own, of another database, or a background process)",
            on=database.address,
            hint="see database.sessions",
        )
    return rows
