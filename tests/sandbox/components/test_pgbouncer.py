"""The sandbox's PgBouncer: its configuration, its passwords, and the rights of the monitor."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import psycopg
import pytest

from xai_runbook.environment import Environment
from xai_runbook.sandbox.components import pgbouncer
from xai_runbook.sandbox.supervisor.component import Layout


@pytest.fixture
def folder(sandbox: dict[str, Any]) -> Path:
    if "pooler" not in sandbox["parts"]:
        pytest.skip("PgBouncer not found")
    return Path(sandbox["overlay"]["sandbox"]["folder"])


def test_passwords_are_in_a_private_file_only(folder: Path) -> None:
    users = folder / "pooler" / "users"
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    password = (folder / "secrets" / "app.password").read_text().strip()
    assert password in users.read_text()
    assert password not in (folder / "pooler" / "pgbouncer.ini").read_text()
    assert "operator" not in users.read_text(), "no changes go through the pooler"


def test_the_monitor_reads_the_console_and_changes_nothing(folder: Path, env: Environment) -> None:
    pooler = env.settings.pooler
    assert pooler is not None and pooler.password is not None
    with psycopg.connect(
        host=pooler.host, port=pooler.port, dbname=pooler.dbname, user=pooler.user, password=pooler.password.reveal(),
        autocommit=True,
    ) as console:  # fmt: skip
        assert console.execute("SHOW POOLS").fetchall()
        for change in (b"PAUSE", b"SHUTDOWN", b"KILL xai_blockchain", b"RELOAD", b"SET max_client_conn=1"):
            with pytest.raises(psycopg.Error):
                console.execute(change)
    assert env.pooler.show("version").iloc[0, 0].startswith("PgBouncer")


def test_the_database_settings_name_it_as_proxy(folder: Path, env: Environment) -> None:
    assert env.settings.database is not None and env.settings.pooler is not None
    assert env.settings.database.proxy is not None
    assert env.settings.database.proxy.port == env.settings.pooler.port
    assert "pooler" not in env.settings.simulated, "the pooler is a real PgBouncer"


def test_without_pgbouncer_there_is_no_pooler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_SYSTEM_PROGRAMS", "no")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    layout = Layout(tmp_path, tmp_path, {"pooler": 1, "postgres": 2})
    assert pgbouncer.parts(layout) == [] and pgbouncer.overlay(layout) == {} and pgbouncer.proxy(layout) == {}
