"""Credentials of programs: a password is never in a named file. Exit codes of programs of unknown effect."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.changing import with_journal
from xai_runbook import apply
from xai_runbook.changes.credentials import role_environment
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.steps.execute import StepRunner
from xai_runbook.changes.steps.result import OutcomeUnknown
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, NotConfigured
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.steps import Command
from xai_runbook.operations.backups import restores
from xai_runbook.pgbackup import catalog


def settings_with_operator(nowhere: Environment, password: Path, text: str, **database: Any) -> Any:
    password.write_text(text)
    tables = nowhere.settings.model_dump()
    tables["database"] |= {
        "host": "localhost",
        "port": 5433,
        "operator": {"user": "xai:operator", "password": f"file:{password}"},
    } | database
    return type(nowhere.settings).model_validate(tables)


@pytest.mark.usefixtures("acting")
def test_a_password_is_passed_in_memory_only(nowhere: Environment, tmp_path: Path) -> None:
    settings = settings_with_operator(
        nowhere, tmp_path / "password", "a:b\\c", sslmode="verify-full", sslrootcert="/etc/ca.crt"
    )
    with role_environment((), settings) as variables:
        assert variables == {}
    with role_environment(("database.operator", "backups.scratch"), settings) as variables:
        assert not any("a:b" in text for text in variables.values())
        assert variables["PGSSLMODE"] == "verify-full" and variables["PGSSLROOTCERT"] == "/etc/ca.crt"
        path = Path(variables["PGPASSFILE"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().startswith("localhost:5433:*:xai\\:operator:a\\:b\\\\c\n")
        assert not os.path.lexists(os.readlink(path)), "it is not on any disk"
    assert not path.exists()


@pytest.mark.usefixtures("acting")
def test_two_roles_share_a_file_and_keep_a_persons_own(
    nowhere: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "pgpass"
    own.write_text("elsewhere:1:*:me:mine\n")
    monkeypatch.setenv("PGPASSFILE", str(own))
    settings = settings_with_operator(nowhere, tmp_path / "password", "one")
    scratch = {"host": "scratch", "user": "tester", "password": f"file:{tmp_path / 'password'}"}
    tables = settings.model_dump() | {"backups": {"folder": str(tmp_path), "scratch": scratch}}
    with role_environment(("database.operator", "backups.scratch"), type(settings).model_validate(tables)) as variables:
        assert Path(variables["PGPASSFILE"]).read_text().splitlines() == [
            "localhost:5433:*:xai\\:operator:one", "scratch:5432:*:tester:one", "elsewhere:1:*:me:mine",
        ]  # fmt: skip
        assert variables["SCRATCH_PGHOST"] == "scratch" and variables["PGHOST"] == "localhost"
    with role_environment(("backups.scratch",), settings) as variables:
        assert variables == {"PGPASSFILE": str(own)}, "libpq's own file if the role has no password"


@pytest.mark.usefixtures("acting")
def test_a_service_is_left_to_libpq(nowhere: Environment, tmp_path: Path) -> None:
    settings = settings_with_operator(nowhere, tmp_path / "password", "one", service="production")
    with role_environment(("database.operator",), settings) as variables:
        assert variables["PGSERVICE"] == "production" and "PGHOST" not in variables
        assert Path(variables["PGPASSFILE"]).read_text().startswith("*:*:*:xai\\:operator:one\n")


@pytest.mark.usefixtures("acting")
def test_roles_that_cannot_be_used(nowhere: Environment, tmp_path: Path) -> None:
    settings = settings_with_operator(nowhere, tmp_path / "password", "two\nlines")
    with (
        pytest.raises(InputError, match="cannot hold a line break"),
        role_environment(("database.operator",), settings),
    ):
        pass
    without_database = settings.model_copy(update={"database": None})
    with pytest.raises(NotConfigured), role_environment(("database.operator",), without_database):
        pass


class NoInterrupt:
    """An interrupt flag that is never set."""

    received = False


def test_a_program_of_unknown_outcome(nowhere: Environment) -> None:
    def act(code: str, **more: Any) -> Any:
        argv = ("python", "-c", code)
        step = Command(argv=argv, environment={}, seconds="20s", equivalent="", **more)
        return StepRunner(nowhere).run(step, lambda _: None, NoInterrupt())  # type: ignore[arg-type]

    with pytest.raises(OutcomeUnknown, match="who knows"):
        act("print('who knows'); raise SystemExit(3)")
    assert not act("raise SystemExit(1)", effects_survive_kill=True).had_effect
    assert act("print('half of it'); raise SystemExit(4)").leftover
    for survive in (False, True):
        for number in (9, 15):
            with pytest.raises(OutcomeUnknown, match=f"it was killed by signal {number}"):
                act(f"import os; os.kill(os.getpid(), {number})", effects_survive_kill=survive)


def test_only_what_was_verified_is_restored(env: Environment, journal: Journal, tmp_path: Path) -> None:
    """P11: with the sandbox's own backup, touched after it was verified."""
    folder = tmp_path / "backups"
    shutil.copytree(env.backups.folder, folder, copy_function=shutil.copy2)
    there = with_journal(env, journal, backups={"folder": str(folder)})
    (backup, *_) = catalog.read(folder)
    for state in ("verified", "unverified"):
        assert catalog.read_one(backup.path).state == state
        for plan in (
            restores.restore(there.database, there.backups, name=backup.name),
            restores.overwrite(there.database, there.backups, name=backup.name),
        ):
            assert bool(plan.steps) is (state == "verified")
            assert ("is unverified" in plan.refused) is (state == "unverified")
        (backup.path / "database.dump").touch()
    assert not isinstance(apply(plan, there), Outcome)
    there.database.close()
