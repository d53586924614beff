"""Section 3 of the runbook: the database. Queries and their checks; every query runs as the read-only role."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xai_runbook.errors import AccessDenied, CannotAsk, InputError, inert
from xai_runbook.model.findings import Finding, Limit, judge
from xai_runbook.model.plans import Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.model.scalars import facts
from xai_runbook.model.secret import MASK

_TLS = {
    "disable": "passwords and rows travel in clear",
    "allow": "in clear wherever the server says so",
    "prefer": "in clear wherever the server says so",
    "require": "encrypted, but the server is not verified",
    "verify-ca": "encrypted, to any server of that authority",
    "verify-full": "encrypted, and to this host only",
}

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database


def connection(database: Database) -> DataFrame:
    """How we connect, as libpq's keywords; what psql needs to do the same, and no secret.

    Columns: keyword, value, remark. The runbook's URI has its password in it, where `ps`, the shell's history and every
    error can show it, and no sslmode, so that no certificate is checked; its psql lines name no host, user or database.
    Source: runbook, Connect to Database; errata E24 to E26; PostgreSQL docs, Parameter Key Words.
    """
    from pandas import DataFrame

    where = database.settings
    rows: list[tuple[str, str, str]] = []
    if where.service:
        rows.append(("service", where.service, "host and port from ~/.pg_service.conf"))
    else:
        by = (
            f"through bastion {where.bastion.host}"
            if where.bastion
            else "the server itself"
            if not database.proxied
            else ""
        )
        rows += [("host", where.host, by or "the proxy: questions only"), ("port", str(where.port), "")]
    rows += [("dbname", where.dbname, ""), ("user", where.user, "may only read")]
    known = where.password is not None
    rows.append(("password", MASK if known else "", "never in a command line" if known else "from ~/.pgpass"))
    rows.append(("sslmode", where.sslmode, _TLS[where.sslmode]))
    words = " ".join(f"{key}={value}" for key, value, _ in rows if value and key != "password")
    rows.append(("in a shell", f'psql "{words}"', "asks for the password, or finds it in ~/.pgpass"))
    return DataFrame(rows, columns=["keyword", "value", "remark"])


def identity(database: Database) -> DataFrame:
    """One row: which server answers, and as whom we ask.

    Columns: system_identifier, database, powers (empty: the role can change nothing), role, server_address,
    server_port, version, in_recovery, started_at, database_oid. Source: PostgreSQL docs, pg_control_system.
    """
    return database.frame("identity")


def readiness(database: Database) -> DataFrame:
    """One row: how far one gets, which is more than the runbook's pg_isready says.

    Columns: target, accepts (as pg_isready: "accepting connections" to anybody), can_login, can_query, in_recovery,
    slots_free (count that clients like us can still have), used_reserved_slot (we came in where others no longer can),
    latency_seconds (login and query), error. Where a step fails, those after it are missing and `error` says why.
    Source: runbook, Database Connection Errors; errata E67; PostgreSQL docs, PQping.
    """
    from pandas import DataFrame

    told: dict[str, object] = {"target": database.address, "accepts": database.ping(), "can_login": False}
    started = time.monotonic()
    try:
        row = database.rows("readiness")[0]
        told |= {"can_login": True, "can_query": True, **row, "latency_seconds": time.monotonic() - started}
        told["error"] = ""
    except CannotAsk as error:
        told["error"] = inert(str(error))
    columns = ("can_query", "in_recovery", "slots_free", "used_reserved_slot", "latency_seconds")
    order = ["target", "accepts", "can_login", *columns, "error"]
    return DataFrame([told], columns=order)


def require_stats_privilege(database: Database) -> None:
    """Passes where our role sees other roles' sessions: without that they are hidden, and a count of them is wrong.

    Errors: AccessDenied. Source: errata E35; PostgreSQL docs, Predefined Roles, pg_read_all_stats.
    """
    if database.rows("rights")[0]["reads_all_stats"] is not True:
        raise AccessDenied(
            "the role does not see other roles' sessions",
            on=database.address,
            hint="GRANT pg_monitor to the role that the settings call user",
        )


def connections(database: Database) -> DataFrame:
    """One row: client backends in use, and the ceiling that a client meets.

    Columns: target, used (count), usable (count: max_connections less the reserved ones), used_ratio (0 to 1).
    Errors: AccessDenied where the role does not see other sessions.
    Source: runbook, Connection Management; PostgreSQL docs, max_connections, reserved_connections.
    """
    require_stats_privilege(database)
    counts = database.frame("connections")
    counts.insert(0, "target", database.dbname)
    return counts.assign(used_ratio=counts["used"] / counts["usable"])


def sessions(database: Database, *, most: int = 50) -> DataFrame:
    """Client sessions, those longest in their state first; at most `most`.

    Columns: pid, database, role, application_name, client_address, state, wait_event_type, wait_event, state_seconds,
    transaction_seconds, started_at, query (its first 80 characters, literals left out).
    Errors: AccessDenied where the role does not see other sessions.
    Source: runbook, Connection Management; PostgreSQL docs, pg_stat_activity.
    """
    require_stats_privilege(database)
    return database.frame("sessions", {"most": most})


def check_pool(connections: DataFrame, limit: Limit) -> Finding:
    """`alert` where more of the usable connections are in use than the limit allows."""
    used, usable = connections[["used", "usable"]].iloc[0]
    return judge(limit, connections, value="used_ratio", target="target", noun=f"in use ({used} of {usable})")


MOST_SESSIONS = 10


@change
def terminate(database: Database, *, pids: list[int]) -> Plan:
    """A Plan that ends exactly these client sessions of this database; at most MOST_SESSIONS of them.

    Each is ended only while it still is the session that was seen (its pid and its start). The runbook's line ends
    every session of every database, replication and PostgreSQL's own background processes included, and stops half
    way where the role may not. Cancel first: `cancel`. Errors: InputError for pids that are no such sessions.
    Source: runbook, Connection Management; PostgreSQL docs, pg_terminate_backend.
    """
    if database.proxied:
        return _by_proxy("terminate")
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
            sessions_left,
            sessions=[f"{row['pid']} {row['backend_start']}" for row in rows],
            column="left_count",
            comparison="==",
            value="0",
            within="5s",
            description="the sessions have gone",
        ),
        undo="cannot be undone: the clients may connect again; what they had not committed is rolled back",
        risk=Risk.DESTRUCTIVE,
    )


@change
def cancel(database: Database, *, pids: list[int]) -> Plan:
    """A Plan that cancels exactly the statements that these sessions run now; the sessions stay.

    Each is cancelled only while it still is the statement that was seen (pid, session start, statement start).
    Errors: InputError for pids that run no statement in this database.
    Source: runbook, Connection Management; PostgreSQL docs, pg_cancel_backend.
    """
    if database.proxied:
        return _by_proxy("cancel")
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
            statements_left,
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


def sessions_left(database: Database, *, sessions: list[str]) -> DataFrame:
    """One row: left_count, how many of these sessions ("PID START", the start in ISO UTC) still exist."""
    return database.frame("sessions_left", {"sessions": sessions})


def statements_left(database: Database, *, statements: list[str]) -> DataFrame:
    """One row: left_count, how many of these statements ("PID START STATEMENT_START", ISO UTC) still run."""
    return database.frame("statements_left", {"statements": statements})


def _by_proxy(verb: str) -> Plan:
    return refused_plan(verb, "through a proxy a session is another client's from one transaction to the next (E24)")


def _sessions(database: Database, query: str, pids: list[int], what: str) -> list[dict[str, str | None]]:
    """The rows of exactly these pids, as facts."""
    if not pids:
        return []
    if len(pids) > MOST_SESSIONS or len(set(pids)) != len(pids) or not all(type(p) is int for p in pids):
        raise InputError(
            f"pids must be at most {MOST_SESSIONS} different numbers",
            on=database.address,
            hint="database.sessions shows them; there is no way to name everybody",
        )
    rows = [facts(row) for row in database.rows(query, {"pids": pids})]
    gone = sorted(set(pids) - {int(row["pid"] or 0) for row in rows})
    if gone:
        raise InputError(
            f"{', '.join(map(str, gone))} are no {what} of others here (ended, another database's, or a background"
            " process)",
            on=database.address,
            hint="database.sessions shows them",
        )
    return rows
