"""Applying changes of max_connections and pg_stat_statements, and their effect after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.changing import with_journal
from tests.support.postgres_server import Server, running
from xai_runbook import apply
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.registry import make_plan
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import Call, Plan
from xai_runbook.operations.database import configuration
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with max_connections in its configuration file, like the sandbox's."""
    with running(tmp_path_factory.mktemp("configuration"), max_connections="") as started:
        yield started


@pytest.fixture
def there(env: Environment, journal: Journal, server: Server) -> Iterator[Environment]:
    operator = server.layout.role("operator")
    table = server.settings().model_dump() | {
        "operator": {"user": operator.name, "password": f"file:{operator.password_file}"},
        "system_identifier": None,
    }
    found = with_journal(env, journal, database=table)
    yield found
    found.database.close()


def applied(plan: Plan, env: Environment) -> Outcome:
    outcome = apply(plan, env, confirm=plan.confirmation)
    assert isinstance(outcome, Outcome)
    return outcome


def setting(env: Environment, name: str) -> dict[str, Any]:
    (row,) = configuration.pending_settings(env.database, names=[name]).to_dict("records")
    return row


def test_max_connections_is_raised_at_the_next_restart(there: Environment, terminal: int, server: Server) -> None:
    plan = configuration.set_max_connections(there.database, value=80)
    assert "ALTER SYSTEM SET max_connections = '80'" in str(plan)
    assert "80 sessions need about 800 MiB" in plan.note and "standbys first" in plan.note
    outcome = applied(plan, there)
    assert outcome.status == "done", outcome
    assert setting(there, "max_connections") == {"name": "max_connections", "value": "60", "pending_restart": True}
    settings = configuration.server_settings(there.database).set_index("name")
    assert settings["pending_restart"]["max_connections"]
    server.stop()
    server.start()
    assert setting(there, "max_connections") == {"name": "max_connections", "value": "80", "pending_restart": False}
    assert configuration.set_max_connections(there.database, value=80).note == "it is 80 already"


def test_undo_before_the_restart(there: Environment, terminal: int) -> None:
    current = int(setting(there, "max_connections")["value"])
    plan = configuration.set_max_connections(there.database, value=current + 5)
    assert applied(plan, there).status == "done"
    assert isinstance(plan.undo, Call)
    undo = make_plan(there, plan.undo.change, plan.undo.arguments)
    assert undo.expected is not None and undo.expected.value == "false"
    assert applied(undo, there).status == "done"
    assert setting(there, "max_connections") == {
        "name": "max_connections", "value": str(current), "pending_restart": False,
    }  # fmt: skip


def test_invalid_values(there: Environment) -> None:
    for wrong in (0, -1, 9, 10**6, True, "80"):
        with pytest.raises(InputError):
            configuration.set_max_connections(there.database, value=wrong)  # type: ignore[arg-type]


def test_a_setting_of_the_command_line_is_refused(
    there: Environment, env: Environment, journal: Journal, tmp_path: Path
) -> None:
    with running(tmp_path) as server:
        table = server.settings().model_dump() | {"operator": {"user": "xai_operator"}, "system_identifier": None}
        other = with_journal(env, journal, database=table)
        plan = configuration.set_max_connections(other.database, value=80)
        other.database.close()
    assert "command line" in plan.refused and not plan.steps


def test_an_operator_without_privileges_learns_what_to_grant(there: Environment, server: Server) -> None:
    """Refused when planning, because otherwise the first step would take effect and the second fail."""
    with server.superuser() as superuser:
        superuser.execute("REVOKE EXECUTE ON FUNCTION pg_reload_conf() FROM xai_operator")
        try:
            plan = configuration.set_max_connections(there.database, value=90)
        finally:
            superuser.execute("GRANT EXECUTE ON FUNCTION pg_reload_conf() TO xai_operator")
        assert "GRANT EXECUTE ON FUNCTION pg_reload_conf()" in plan.refused
        superuser.execute("REVOKE ALTER SYSTEM ON PARAMETER max_connections FROM xai_operator")
        try:
            plan = configuration.set_max_connections(there.database, value=90)
        finally:
            superuser.execute("GRANT ALTER SYSTEM ON PARAMETER max_connections TO xai_operator")
        assert "GRANT ALTER SYSTEM ON PARAMETER max_connections" in plan.refused


def test_statement_statistics_are_set_up_in_two_steps(there: Environment, terminal: int, server: Server) -> None:
    """The server starts again: several libraries in one literal would be one library that does not exist."""
    with server.superuser() as superuser:
        superuser.execute("DROP EXTENSION pg_stat_statements")
        superuser.execute("ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', 'pg_prewarm'")
    server.stop()
    server.start()
    first = configuration.set_up_statement_statistics(there.database)
    assert "'auto_explain', 'pg_prewarm', 'pg_stat_statements'" in str(first)
    assert "'auto_explain', 'pg_prewarm'," in str(first.undo)
    assert applied(first, there).status == "done"
    again = configuration.set_up_statement_statistics(there.database)
    assert "waits for a restart" in again.refused
    server.stop()
    server.start()
    second = configuration.set_up_statement_statistics(there.database)
    assert second.targets == ("extension pg_stat_statements in xai_blockchain",)
    outcome = applied(second, there)
    assert outcome.status == "failed", "only a superuser may, so it is certain that nothing was changed"
    assert configuration.statement_statistics(there.database)["created"].iloc[0] == 0
    with server.superuser() as superuser:
        superuser.execute("ALTER ROLE xai_operator SUPERUSER")
    try:
        second = configuration.set_up_statement_statistics(there.database)
        assert applied(second, there).status == "done"
    finally:
        with server.superuser() as superuser:
            superuser.execute("ALTER ROLE xai_operator NOSUPERUSER")
    assert "set up already" in configuration.set_up_statement_statistics(there.database).note
