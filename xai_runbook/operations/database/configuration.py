"""Server settings, and changes of them: max_connections, and loading pg_stat_statements."""

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
"""Memory of a session without work_mem, as a rule of thumb."""

MAX_CONNECTIONS = 10_000
RELOAD = Sql(name="reload_configuration", parameters={}, equivalent='psql -c "SELECT pg_reload_conf()"')


def server_settings(database: Database) -> DataFrame:
    """Return the settings that limit connections, memory and waits, and those that decide what survives a crash.

    Columns: name, value (in `unit`), unit, source (where it was set), default_value, pending_restart, why.
    Source: PostgreSQL docs, pg_settings.
    """
    return database.frame("server_settings")


def pending_settings(database: Database, *, names: list[str]) -> DataFrame:
    """Return the current values of these settings, and whether a changed value waits for a restart.

    Columns: name, value, pending_restart. Source: PostgreSQL docs, pg_settings.pending_restart.
    """
    return database.frame("pending_settings", {"names": names})


def reloaded_settings(database: Database, *, names: list[str], since: str) -> DataFrame:
    """Return `pending_settings`; pending_restart is missing until the server has reloaded since `since`."""
    return database.frame("reloaded_settings", {"names": names, "since": since})


@change
def set_max_connections(database: Database, *, value: int) -> Plan:
    """Plan to set max_connections, effective from the next restart, which is not part of the plan.

    Each slot costs memory, used or not; a pooler is often better (`plan_pool_size`). Standbys must be raised before
    their primary. Errors: InputError for an invalid value.
    Source: runbook, Database Connection Errors; errata E70; PostgreSQL docs, max_connections, ALTER SYSTEM.
    """
    verb, name = "set_max_connections", "max_connections"
    if type(value) is not int or not 10 <= value <= MAX_CONNECTIONS:
        raise InputError(f"invalid max_connections: {value!r:.40}", hint=f"an integer from 10 to {MAX_CONNECTIONS}")
    row, refused = _alterable(database, verb, name)
    if refused is not None:
        return refused
    current = str(row["value"])
    memory = database.rows("memory_settings")[0]
    idle_bytes = value * SESSION_BYTES
    sorting_bytes = value * (SESSION_BYTES + int(memory["work_mem_bytes"]))
    unchanged = current == str(value) and not row["pending_restart"]
    note = (
        f"effective from the next restart; {value} sessions need about {quantity(float(idle_bytes), 'bytes')}, or"
        f" {quantity(float(sorting_bytes), 'bytes')} if each sorts once (work_mem), in addition to shared_buffers of"
        f" {quantity(float(memory['shared_buffers_bytes']), 'bytes')}; raise standbys first"
    )
    return Plan(
        verb=verb,
        scope=database.dbname,
        targets=() if unchanged else (f"{name} of this server: {current} becomes {value}",),
        observed=(_observed(row),),
        steps=()
        if unchanged
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
        note=f"it is {value} already" if unchanged else note,
        expected=None if unchanged else _reloaded(row, pending=current != str(value)),
        undo=Call.of(set_max_connections, value=int(current)),
        risk=Risk.CHANGE,
        parts={"server": "exclusive", "database": "read"},
    )


@change
def set_up_statement_statistics(database: Database) -> Plan:
    """Plan to take the next step towards pg_stat_statements: load the library, or create the extension.

    Loading adds it to shared_preload_libraries and needs a restart, which is not part of the plan. Planned again after
    that, the extension is created in this database. Source: runbook, Slow API Response; PostgreSQL docs,
    pg_stat_statements, shared_preload_libraries.
    """
    verb, name = "set_up_statement_statistics", "shared_preload_libraries"
    row, refused = _alterable(database, verb, name)
    statistics = database.rows("statement_statistics")[0]
    loaded = [library for part in str(statistics["libraries"]).split(",") if (library := part.strip(' "'))]
    if "pg_stat_statements" in loaded:
        return _create_extension(database, verb, statistics)
    if refused is not None:
        return refused
    if not statistics["available"]:
        return refused_plan(
            verb, "pg_stat_statements is not installed on the server: install its contrib package first"
        )
    if row["pending_restart"]:
        return refused_plan(verb, f"{name} has been changed and waits for a restart: restart the server first")
    former = ", ".join(f"'{library}'" for library in loaded) or "''"
    libraries = (*loaded, "pg_stat_statements")
    return Plan(
        verb=verb,
        scope=database.dbname,
        targets=(f"{name} of this server: pg_stat_statements is added",),
        observed=(_observed(row),),
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
        note="effective from the next restart; plan this again after it to create the extension",
        expected=_reloaded(row, pending=True),
        undo=f"by hand: ALTER SYSTEM SET {name} = {former}, SELECT pg_reload_conf(); no effect before the restart",
        risk=Risk.CHANGE,
        parts={"server": "exclusive", "database": "read"},
    )


def statement_statistics(database: Database) -> DataFrame:
    """Return one row: how far pg_stat_statements is set up.

    Columns: libraries (loaded by the server), available (installed on the server), version (of the extension in this
    database; missing if not created), created (1 or 0).
    """
    frame = database.frame("statement_statistics")
    return frame.assign(created=frame["version"].notna().astype(int))


def _create_extension(database: Database, verb: str, statistics: dict[str, Any]) -> Plan:
    exists = statistics["version"] is not None
    return refuse_unless_primary(database, verb) or Plan(
        verb=verb,
        scope=database.dbname,
        targets=() if exists else (f"extension pg_stat_statements in {database.dbname}",),
        observed=({"libraries": str(statistics["libraries"])},),
        steps=()
        if exists
        else (
            Sql(
                name="create_statement_statistics",
                parameters={},
                equivalent=f'psql -d {database.dbname} -c "CREATE EXTENSION pg_stat_statements"',
                atomic=True,
            ),
        ),
        note=f"it is set up already: version {statistics['version']}"
        if exists
        else "needs a superuser or the provider's equivalent",
        expected=None
        if exists
        else Condition.of(
            statement_statistics,
            column="created",
            comparison="==",
            value="1",
            within="5s",
            description="the extension exists",
        ),
        undo="by hand: DROP EXTENSION pg_stat_statements; its counters are lost",
        risk=Risk.CHANGE,
    )


def _alterable(database: Database, verb: str, name: str) -> tuple[dict[str, Any], Plan | None]:
    """Return the setting's row, and a refused Plan if the operator role cannot change it."""
    refused = refuse_unless_primary(database, verb)
    operator = database.settings.operator
    if operator is None:
        raise NotConfigured("database.operator is not configured", on="database.operator")
    row = database.rows("setting_to_change", {"name": name, "operator": operator.user})[0]
    if refused is not None:
        return row, refused
    if row["provider"]:
        return row, refused_plan(verb, "on RDS this is set in the parameter group and needs a reboot: 04_scaling")
    if row["source"] == "command line":
        return row, refused_plan(verb, "it is set on the server's command line, which overrides ALTER SYSTEM")
    if not row["may_alter"]:
        return row, refused_plan(
            verb,
            f"role {operator.user} may not: GRANT ALTER SYSTEM ON PARAMETER {name} (since 15), or use a superuser",
        )
    if not row["may_reload"]:
        return row, refused_plan(
            verb,
            f"role {operator.user} may not reload: GRANT EXECUTE ON FUNCTION pg_reload_conf() to it",
        )
    return row, None


def _observed(row: dict[str, Any]) -> dict[str, str | None]:
    return {
        "name": str(row["name"]),
        "value": str(row["value"]),
        "source": str(row["source"]),
        "pending_restart": "true" if row["pending_restart"] else "false",
    }


def _reloaded(row: dict[str, Any], *, pending: bool) -> Condition:
    """Return the condition that the server has reloaded, and that the setting waits for a restart or does not."""
    return Condition.of(
        reloaded_settings,
        names=[str(row["name"])],
        since=fact(row["loaded_at"]),
        column="pending_restart",
        comparison="==",
        value="true" if pending else "false",
        within="10s",
        description="the server has reloaded, and the value waits for a restart"
        if pending
        else "the server has reloaded, and the value is the running one",
    )
