"""How large the application's pools may be, where their size stands, and changing it."""

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
    from xai_runbook.settings.database import Pool


def plan_pool_size(
    database: Database, *, pool_size: int = 100, processes: int = 1, max_overflow: int = 0, reserve: int = 10
) -> DataFrame:
    """Whether pools of that size fit, as the sum that the runbook's `pool_size=100` leaves out; one row a term.

    `pool_size` and `max_overflow` are of each process that has a pool (SQLAlchemy's words; libpq knows neither);
    `reserve` slots stay for people, backups and migrations. Columns: term, connection_count, why; the last rows are
    "left" (less than nothing: it does not fit) and "largest that fits". Errors: InputError.
    Source: runbook, Database Connection Errors; errata E69; PostgreSQL docs, max_connections.
    """
    from pandas import DataFrame

    numbers = {"pool_size": pool_size, "processes": processes, "max_overflow": max_overflow, "reserve": reserve}
    for name, number in numbers.items():
        if type(number) is not int or not (0 if name in ("max_overflow", "reserve") else 1) <= number <= 100_000:
            raise InputError(f"{name} cannot be {number!r:.40}", hint="a whole number")
    row = database.rows("connections")[0]
    others = _others(database)
    usable = int(row["usable"])
    room = usable - reserve - others
    wanted = processes * (pool_size + max_overflow)
    terms = [
        ("usable", usable, "max_connections less the reserved ones"),
        ("reserve", -reserve, "kept for people, backups and migrations"),
        ("others now", -others, "sessions of other applications than the one with most"),
        ("wanted", -wanted, f"{processes} processes, each {pool_size} and {max_overflow} more at peaks"),
        ("left", room - wanted, "it fits" if wanted <= room else "it does not fit: clients will be turned away"),
        ("largest that fits", max(0, room // processes - max_overflow), "pool_size of each process"),
    ]
    return DataFrame(terms, columns=["term", "connection_count", "why"])


def pooler_settings(database: Database, *, clients: int = 500, reserve: int = 10) -> DataFrame:
    """What a PgBouncer before this database would be told, from its slots and its databases; nothing is written.

    `clients` is how many may connect to it; `reserve` slots of the server stay for people, backups and migrations.
    Columns: setting, value, why. Errors: InputError. Source: runbook, Database Connection Errors ("Implement connection
    pooling"); PgBouncer docs, Configuration.
    """
    from pandas import DataFrame

    if type(clients) is not int or type(reserve) is not int or not 1 <= clients <= 100_000 or reserve < 0:
        raise InputError("clients and reserve are whole numbers", hint="clients=500, reserve=10")
    usable = int(database.rows("connections")[0]["usable"])
    servers = max(1, usable - reserve)
    rows = [
        ("max_client_conn", clients, "clients that may connect; each costs a descriptor and some kilobytes"),
        ("max_db_connections", servers, "sessions at the server, all pools of a database together"),
        ("default_pool_size", max(1, servers // 2), "of each database and role: two roles share what there is"),
        (
            "pool_mode",
            "transaction",
            "a session for each transaction: no SET, LISTEN, advisory locks or temporary tables",
        ),
        (
            "max_prepared_statements",
            100,
            "since 1.21; before, clients must not prepare (psycopg: prepare_threshold=None)",
        ),
        ("auth_query", "a function that reads pg_authid", "so that no file holds everybody's passwords"),
        ("ignore_startup_parameters", "extra_float_digits", "JDBC sends it"),
        ("server_tls_sslmode", "verify-full", "the way to the server is a network too"),
    ]
    return DataFrame(rows, columns=["setting", "value", "why"]).astype({"value": str})


def pool_setting(database: Database) -> DataFrame:
    """One row: the application's pool size as its configuration file says it.

    Columns: file, key, value. Errors: NotConfigured without [database.pool]; NoData where the file has it not.
    Source: runbook, Database Connection Errors; errata E69.
    """
    from pandas import DataFrame

    pool, _, found = _pool_file(database)
    return DataFrame([(pool.file, pool.key, int(found.value))], columns=["file", "key", "value"])


@change
def set_pool_size(database: Database, *, size: int = 100) -> Plan:
    """A Plan that changes the application's pool size, one number in the file that the settings name.

    Refused where pools of that size do not fit into the database's slots: see `plan_pool_size`. The application reads
    it when it starts. Errors: InputError for a size that cannot be.
    Source: runbook, Database Connection Errors, whose connection string knows no pool_size (errata E69).
    """
    verb = "set_pool_size"
    if database.proxied:
        return refused_plan(verb, "the slots are counted at the database itself, not through a proxy")
    pool, digest, found = _pool_file(database)
    sums = plan_pool_size(database, pool_size=size, processes=pool.processes).set_index("term")["connection_count"]
    if sums["left"] < 0 and size > int(found.value):
        return refused_plan(
            verb,
            f"{pool.processes} processes with {size} each do not fit: {-sums['left']} slots are missing;"
            f" the largest that fits is {sums['largest that fits']}",
        )
    nothing = found.value == str(size)
    return Plan(
        verb=verb,
        scope=database.dbname,
        targets=() if nothing else (f"{pool.key} in {pool.file}: {found.value} becomes {size}",),
        observed=({"file": pool.file, "key": pool.key, "value": found.value, "sha256": digest},),
        steps=()
        if nothing
        else (
            Edit(
                path=pool.file,
                sha256=digest,
                key=pool.key,
                before=found.value,
                after=str(size),
                equivalent=f"sed -i.before '/{pool.key}/s/{found.value}/{size}/' {pool.file}",
            ),
        ),
        note=f"it is {size} already"
        if nothing
        else "the application reads it when it starts: restart it (01_services)",
        expected=None
        if nothing
        else Condition.of(
            pool_setting,
            column="value",
            comparison="==",
            value=str(size),
            description="the file says so",
        ),
        undo=Call.of(set_pool_size, size=int(found.value)),
        risk=Risk.CHANGE,
        parts={"database": "read", f"file {pool.file}": "change"},
    )


def _pool_file(database: Database) -> tuple[Pool, str, ConfigLine]:
    """The settings' table, the file's digest, and where the number stands."""
    pool = database.settings.pool
    if pool is None:
        raise NotConfigured(
            "database.pool is not configured",
            on="database.pool",
            hint="a table [database.pool] with file, key and processes",
        )
    try:
        with open(pool.file, "rb") as file:
            content = file.read(2**20)
        return pool, hashlib.sha256(content).hexdigest(), ConfigLine.find(content.decode(), pool.key)
    except OSError as error:
        raise NoData(f"the file cannot be read: {error.strerror}", on=pool.file, hint="database.pool.file") from None
    except (UnicodeDecodeError, InputError) as error:
        what = error.what if isinstance(error, InputError) else "it is not UTF-8 text"
        raise NoData(what, on=f"{pool.file}, {pool.key}", hint="database.pool in the settings") from None


def _others(database: Database) -> int:
    """How many sessions there are beside those of the application that has most of them."""
    leaks = connection_leaks(database)
    if leaks.empty:
        return 0
    counts = leaks.groupby("application_name")["session_count"].sum()
    return int(counts.sum() - counts.max())
