"""The database's configuration: what matters of it, and the changes that the runbook wants: slots, pool, statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xai_runbook.errors import InputError, NotConfigured
from xai_runbook.model.plans import Call, Condition, Plan, Risk, Sql, change, refused_plan
from xai_runbook.model.scalars import fact
from xai_runbook.model.units import quantity
from xai_runbook.operations.database._relations import refuse_unless_primary

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

SESSION_BYTES = 10 * 2**20
"""What a session needs before it sorts anything, as a rule of thumb."""

MOST_CONNECTIONS = 10_000
RELOAD = Sql(name="reload_configuration", parameters={}, equivalent='psql -c "SELECT pg_reload_conf()"')


def server_settings(database: Database) -> DataFrame:
    """The settings that decide how many clients fit in, how long they may wait and what survives a crash.

    Columns: name, value (in `unit`), unit, source (where it was set), default_value, pending_restart, why.
    Source: PostgreSQL docs, pg_settings.
    """
    return database.frame("server_settings")


def pending_settings(database: Database, *, names: list[str]) -> DataFrame:
    """What of these settings runs now, and whether the configuration says otherwise and waits for a restart.

    Columns: name, value, pending_restart. Source: PostgreSQL docs, pg_settings.pending_restart.
    """
    return database.frame("pending_settings", {"names": names})


def settings_read_since(database: Database, *, names: list[str], since: str) -> DataFrame:
    """As `pending_settings`, with pending_restart missing where the server has not read its configuration since."""
    return database.frame("settings_read_since", {"names": names, "since": since})


@change
def set_max_connections(database: Database, *, value: int) -> Plan:
    """A Plan that sets max_connections from the next restart on; the restart is another's decision.

    More slots cost memory whether or not they are used, and a pooler is often the better answer (`plan_pool_size`).
    Standbys must be raised before their primary. Errors: InputError for a value that cannot be.
    Source: runbook, Database Connection Errors; errata E70; PostgreSQL docs, max_connections, ALTER SYSTEM.
    """
    verb, name = "set_max_connections", "max_connections"
    if type(value) is not int or not 10 <= value <= MOST_CONNECTIONS:
        raise InputError(f"max_connections cannot be {value!r:.40}", hint=f"a whole number, 10 to {MOST_CONNECTIONS}")
    row, refused = _alterable(database, verb, name)
    if refused is not None:
        return refused
    now = str(row["value"])
    memory = database.rows("memory_settings")[0]
    worst = value * (SESSION_BYTES + int(memory["work_mem_bytes"]))
    held = value * SESSION_BYTES
    nothing = now == str(value) and not row["pending_restart"]
    words = (
        f"holds from the next restart on; {value} sessions need about {quantity(float(held), 'bytes')}, and"
        f" {quantity(float(worst), 'bytes')} where each sorts once (work_mem), beside shared_buffers of"
        f" {quantity(float(memory['shared_buffers_bytes']), 'bytes')}; raise standbys first"
    )
    return Plan(
        verb=verb,
        scope=database.dbname,
        targets=() if nothing else (f"{name} of this server: {now} becomes {value}",),
        observed=(_seen(row),),
        steps=()
        if nothing
        else (
            Sql(
                name="set_max_connections",
                parameters={},
                literals={"value": (str(value),)},
                equivalent=f'psql -c "ALTER SYSTEM SET max_connections = {value}"',
                atomic=True,
            ),
            RELOAD,
        ),
        note=f"it is {value} already" if nothing else words,
        expected=None if nothing else _pending(row, now != str(value)),
        undo=Call.of(set_max_connections, value=int(now)),
        risk=Risk.CHANGE,
        parts={"server": "exclusive", "database": "read"},
    )


@change
def set_up_statement_statistics(database: Database) -> Plan:
    """A Plan of the next step towards pg_stat_statements, which tells the slow statements: loaded, then created.

    First the library is added to those that the server loads, which needs a restart by whoever may; planned again
    after that, the extension is created in this database. Source: runbook, Slow API Response; PostgreSQL docs,
    pg_stat_statements, shared_preload_libraries.
    """
    verb, name = "set_up_statement_statistics", "shared_preload_libraries"
    row, refused = _alterable(database, verb, name)
    told = database.rows("statement_statistics")[0]
    loaded = [library for part in str(told["libraries"]).split(",") if (library := part.strip(' "'))]
    if "pg_stat_statements" in loaded:
        return _created(database, verb, told)
    if refused is not None:
        return refused
    if not told["available"]:
        return refused_plan(verb, "the server has no pg_stat_statements: install its contrib package first")
    if row["pending_restart"]:
        return refused_plan(verb, f"{name} was changed already and waits for a restart: restart the server first")
    former = ", ".join(f"'{library}'" for library in loaded) or "''"
    libraries = (*loaded, "pg_stat_statements")
    return Plan(
        verb=verb,
        scope=database.dbname,
        targets=(f"{name} of this server: pg_stat_statements is added",),
        observed=(_seen(row),),
        steps=(
            Sql(
                name="set_preloaded_libraries",
                parameters={},
                literals={"libraries": libraries},
                equivalent='psql -c "ALTER SYSTEM SET shared_preload_libraries = '
                + ", ".join(f"'{library}'" for library in libraries)
                + '"',
                atomic=True,
            ),
            RELOAD,
        ),
        note="holds from the next restart on; plan this again after it: then the extension is created",
        expected=_pending(row, True),
        undo=f"by hand: ALTER SYSTEM SET {name} = {former}, SELECT pg_reload_conf(); before the restart nothing holds",
        risk=Risk.CHANGE,
        parts={"server": "exclusive", "database": "read"},
    )


def statement_statistics(database: Database) -> DataFrame:
    """One row: how far pg_stat_statements is set up.

    Columns: libraries (that the server has loaded), available (its files are there), version (of the extension in this
    database; missing where it was not created), created (1 or 0).
    """
    frame = database.frame("statement_statistics")
    return frame.assign(created=frame["version"].notna().astype(int))


def _created(database: Database, verb: str, told: dict[str, Any]) -> Plan:
    there = told["version"] is not None
    return refuse_unless_primary(database, verb) or Plan(
        verb=verb,
        scope=database.dbname,
        targets=() if there else (f"extension pg_stat_statements in {database.dbname}",),
        observed=({"libraries": str(told["libraries"])},),
        steps=()
        if there
        else (
            Sql(
                name="create_statement_statistics",
                parameters={},
                equivalent=f'psql -d {database.dbname} -c "CREATE EXTENSION pg_stat_statements"',
                atomic=True,
            ),
        ),
        note=f"it is set up already: version {told['version']}"
        if there
        else "needs a superuser, or what a provider has",
        expected=None
        if there
        else Condition.of(
            statement_statistics,
            column="created",
            comparison="==",
            value="1",
            within="5s",
            description="the extension is there",
        ),
        undo="by hand: DROP EXTENSION pg_stat_statements; what it has counted goes with it",
        risk=Risk.CHANGE,
    )


def _alterable(database: Database, verb: str, name: str) -> tuple[dict[str, Any], Plan | None]:
    """The setting's row, and the refused Plan where the operator cannot change it here."""
    elsewhere = refuse_unless_primary(database, verb)
    operator = database.settings.operator
    if operator is None:
        raise NotConfigured("database.operator is not configured", on="database.operator")
    row = database.rows("setting_to_change", {"name": name, "operator": operator.user})[0]
    if elsewhere is not None:
        return row, elsewhere
    if row["provider"]:
        return row, refused_plan(
            verb, "on RDS this stands in the parameter group, and holds after a reboot: 04_scaling"
        )
    if row["source"] == "command line":
        return row, refused_plan(verb, "it was given on the server's command line, which nothing written here changes")
    if not row["may_alter"]:
        return row, refused_plan(
            verb,
            f"the role {operator.user} may not: GRANT ALTER SYSTEM ON PARAMETER {name} (since 15), or a superuser",
        )
    if not row["may_reload"]:
        return row, refused_plan(
            verb, f"the role {operator.user} may not: GRANT EXECUTE ON FUNCTION pg_reload_conf() to it"
        )
    return row, None


def _seen(row: dict[str, Any]) -> dict[str, str | None]:
    return {
        "name": str(row["name"]),
        "value": str(row["value"]),
        "source": str(row["source"]),
        "pending_restart": "true" if row["pending_restart"] else "false",
    }


def _pending(row: dict[str, Any], pending: bool) -> Condition:
    """The server has read its configuration since and says whether it waits for a restart, as it may have before."""
    return Condition.of(
        settings_read_since,
        names=[str(row["name"])],
        since=fact(row["loaded_at"]),
        column="pending_restart",
        comparison="==",
        value="true" if pending else "false",
        within="10s",
        description="the server has it, and it waits for a restart" if pending else "the server has it, as it runs now",
    )
