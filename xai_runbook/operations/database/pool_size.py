"""How large the application's connection pools may be, what size is configured, and changing it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from xai_runbook.errors import InputError, NoData, NotConfigured
from xai_runbook.model.plans import Call, Condition, Edit, Plan, Risk, change, refused_plan
from xai_runbook.operations.database.pools import connection_leaks
from xai_runbook.system.config_line import ConfigLine

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database
    from xai_runbook.settings.database import PoolSettings


def plan_pool_size(
    database: Database, *, pool_size: int = 100, processes: int = 1, max_overflow: int = 0, reserve: int = 10
) -> DataFrame:
    """Return the calculation of whether pools of that size fit into max_connections, one row per term.

    `pool_size` and `max_overflow` are per process with a pool (SQLAlchemy's terms; libpq has neither); `reserve` slots
    are kept for people, backups and migrations. Columns: term, connection_count, why; the last rows are "left"
    (negative if it does not fit) and "largest that fits". Errors: InputError.
    Source: runbook, Database Connection Errors; errata E69; PostgreSQL docs, max_connections.
    """
    from pandas import DataFrame

    numbers = {"pool_size": pool_size, "processes": processes, "max_overflow": max_overflow, "reserve": reserve}
    for name, number in numbers.items():
        if type(number) is not int or not (0 if name in ("max_overflow", "reserve") else 1) <= number <= 100_000:
            raise InputError(f"invalid {name}: {number!r:.40}", hint="an integer from 0 or 1 to 100000")
    row = database.rows("connections")[0]
    others = _other_sessions(database)
    usable = int(row["usable"])
    available = usable - reserve - others
    wanted = processes * (pool_size + max_overflow)
    terms = [
        ("usable", usable, "max_connections minus the reserved slots"),
        ("reserve", -reserve, "kept for people, backups and migrations"),
        ("others now", -others, "sessions of all applications except the largest"),
        ("wanted", -wanted, f"{processes} processes with {pool_size} each, and {max_overflow} more at peaks"),
        ("left", available - wanted, "it fits" if wanted <= available else "it does not fit: logins will fail"),
        ("largest that fits", max(0, available // processes - max_overflow), "pool_size of each process"),
    ]
    return DataFrame(terms, columns=["term", "connection_count", "why"])


def pooler_settings(database: Database, *, clients: int = 500, reserve: int = 10) -> DataFrame:
    """Return suggested settings for a PgBouncer in front of this database; nothing is written.

    `clients` is how many may connect to it; `reserve` slots of the server are kept for people, backups and migrations.
    Columns: setting, value, why. Errors: InputError. Source: runbook, Database Connection Errors ("Implement connection
    pooling"); PgBouncer docs, Configuration.
    """
    from pandas import DataFrame

    if type(clients) is not int or type(reserve) is not int or not 1 <= clients <= 100_000 or reserve < 0:
        raise InputError("clients and reserve must be integers", hint="such as clients=500, reserve=10")
    usable = int(database.rows("connections")[0]["usable"])
    servers = max(1, usable - reserve)
    rows = [
        ("max_client_conn", clients, "clients that may connect; each costs a file descriptor and a few kB"),
        ("max_db_connections", servers, "server connections per database, over all of its pools"),
        (
            "default_pool_size",
            max(1, servers // 2),
            "per database and role: with two roles, half of the connections each",
        ),
        (
            "pool_mode",
            "transaction",
            "one server connection per transaction: no SET, LISTEN, advisory locks or temporary tables",
        ),
        (
            "max_prepared_statements",
            100,
            "since 1.21; with older versions clients must not prepare (psycopg: prepare_threshold=None)",
        ),
        ("auth_query", "a function that reads pg_authid", "so that no file holds all passwords"),
        ("ignore_startup_parameters", "extra_float_digits", "JDBC sends it"),
        ("server_tls_sslmode", "verify-full", "the connection to the server needs TLS too"),
    ]
    return DataFrame(rows, columns=["setting", "value", "why"]).astype({"value": str})


def pool_setting(database: Database) -> DataFrame:
    """Return one row: the application's pool size in its configuration file.

    Columns: file, key, value. Errors: NotConfigured without [database.pool]; NoData if it cannot be read there.
    Source: runbook, Database Connection Errors; errata E69.
    """
    from pandas import DataFrame

    pool, _, line = _pool_file(database)
    return DataFrame([(pool.file, pool.key, int(line.value))], columns=["file", "key", "value"])


@change
def set_pool_size(database: Database, *, size: int = 100) -> Plan:
    """Plan to change the application's pool size, one number in the file that the settings name.

    Refused if pools of that size do not fit into max_connections (`plan_pool_size`). The application reads the file
    when it starts. Errors: InputError for an invalid size.
    Source: runbook, Database Connection Errors, whose connection string has no pool_size (errata E69).
    """
    verb = "set_pool_size"
    if database.proxied:
        return refused_plan(verb, "the connection slots must be read from the database itself, not through a proxy")
    pool, digest, line = _pool_file(database)
    terms = plan_pool_size(database, pool_size=size, processes=pool.processes).set_index("term")["connection_count"]
    if terms["left"] < 0 and size > int(line.value):
        return refused_plan(
            verb,
            f"{pool.processes} processes with {size} each do not fit: {-terms['left']} slots are missing;"
            f" the largest that fits is {terms['largest that fits']}",
        )
    unchanged = line.value == str(size)
    return Plan(
        verb=verb,
        scope=database.dbname,
        targets=() if unchanged else (f"{pool.key} in {pool.file}: {line.value} becomes {size}",),
        observed=({"file": pool.file, "key": pool.key, "value": line.value, "sha256": digest},),
        steps=()
        if unchanged
        else (
            Edit(
                path=pool.file,
                sha256=digest,
                key=pool.key,
                before=line.value,
                after=str(size),
                equivalent=f"sed -i.before '/{pool.key}/s/{line.value}/{size}/' {pool.file}",
            ),
        ),
        note=f"it is {size} already"
        if unchanged
        else "the application reads it when it starts: restart it (01_services)",
        expected=None
        if unchanged
        else Condition.of(
            pool_setting,
            column="value",
            comparison="==",
            value=str(size),
            description="the file has the new value",
        ),
        undo=Call.of(set_pool_size, size=int(line.value)),
        risk=Risk.CHANGE,
        parts={"database": "read", f"file {pool.file}": "change"},
    )


def _pool_file(database: Database) -> tuple[PoolSettings, str, ConfigLine]:
    """Return the pool's settings, the digest of its file, and the line with the number."""
    pool = database.settings.pool
    if pool is None:
        raise NotConfigured(
            "database.pool is not configured",
            on="database.pool",
            hint="add a table [database.pool] with file, key and processes",
        )
    try:
        with open(pool.file, "rb") as file:
            content = file.read(2**20)
        return pool, hashlib.sha256(content).hexdigest(), ConfigLine.find(content.decode(), pool.key)
    except OSError as error:
        raise NoData(
            f"the file cannot be read: {error.strerror}", on=pool.file, hint="check database.pool.file"
        ) from None
    except (UnicodeDecodeError, InputError) as error:
        what = error.what if isinstance(error, InputError) else "the file is not UTF-8 text"
        raise NoData(what, on=f"{pool.file}, {pool.key}", hint="check database.pool in the settings") from None


def _other_sessions(database: Database) -> int:
    """Return the number of sessions of all applications except the one with the most."""
    leaks = connection_leaks(database)
    if leaks.empty:
        return 0
    counts = leaks.groupby("application_name")["session_count"].sum()
    return int(counts.sum() - counts.max())
