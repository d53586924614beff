"""Fixtures for tests of changes: a terminal, sessions to terminate, and a journal of the test's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from xai_runbook.changes.journal import Journal
from xai_runbook.environment import Environment
from xai_runbook.settings import loading
from xai_runbook.system import sandbox_state

Session = psycopg.Connection[Any]
TORTURED = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Return the shared sandbox, or the running one if a guard's test runs separately (test_guards)."""
    running = os.environ.get("GUARDS_SANDBOX")
    if running is None:
        yield request.getfixturevalue("sandbox")
        return
    found = sandbox_state.read(Path(running))
    assert found is not None
    os.environ["XAI_RUNBOOK_SANDBOX"] = running
    yield found


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return an empty journal of the test's own."""
    found = Journal(tmp_path / "journal")
    found.create()
    return found


def with_journal(env: Environment, journal: Journal, **tables: dict[str, Any]) -> Environment:
    """Return the same environment with that journal and other keys of its tables."""
    settings = env.settings.model_dump()
    changed = {table: settings[table] | keys for table, keys in tables.items()}
    outputs = {"outputs": settings["outputs"] | {"journal": str(journal.folder)}}
    return Environment(type(env.settings).model_validate({**settings, **changed, **outputs}))


@pytest.fixture
def here(env: Environment, journal: Journal) -> Iterator[Environment]:
    """Yield the shared sandbox with a journal of the test's own."""
    found = with_journal(env, journal)
    yield found
    found.database.close()


@pytest.fixture
def nowhere(journal: Journal) -> Environment:
    """Return an environment without servers, for refusals that need none."""
    operator = {"user": "xai_operator", "password": None}
    return with_journal(Environment(loading.load("sandbox")), journal, database={"operator": operator})


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Make standard input a terminal until the test ends; yield its other end, to type on."""
    typing, slave = os.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield typing
    os.close(typing)


@pytest.fixture
def session(sandbox: dict[str, Any]) -> Iterator[Callable[..., Session]]:
    """Yield a function that opens sessions of the application."""
    database, opened = sandbox["overlay"]["database"], []
    password = (Path(os.environ["XAI_RUNBOOK_SANDBOX"]) / "secrets" / "app.password").read_text().strip()

    def opens(name: str = "worker") -> Session:
        opened.append(
            psycopg.connect(
                host=database["host"], port=database["port"], dbname=database["dbname"], user="xai_app",
                password=password, application_name=name, autocommit=True,
            )
        )  # fmt: skip
        return opened[-1]

    yield opens
    for connection in opened:
        connection.close()


def lives(session: Session) -> bool:
    """Return whether the server still serves the session."""
    try:
        session.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
