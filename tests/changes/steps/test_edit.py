"""Steps that edit one value of a file: only while the file is unchanged since the plan was made."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.changing import with_journal
from xai_runbook import apply
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.steps.edit import run_edit
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, Refused
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import Edit, Plan
from xai_runbook.operations.database import pool_size
from xai_runbook.system.config_line import ConfigLine

TEXT = "# the application's\npassword = 'hunter2'\n[pool]\n  pool_size = 6  # measured\nmax = 3\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "application.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


@pytest.fixture
def pooled(env: Environment, journal: Journal, file: Path) -> Environment:
    return with_journal(env, journal, database={"pool": {"file": str(file), "key": "pool_size", "processes": 2}})


def step(file: Path, **keys: Any) -> Edit:
    fields = {
        "path": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "key": "pool_size",
        "before": "6", "after": "8", "equivalent": "sed",
    }  # fmt: skip
    return Edit(**(fields | keys))


def planned(env: Environment, size: int) -> Plan:
    return pool_size.set_pool_size(env.database, size=size)


def test_the_pool_is_resized_and_back(pooled: Environment, terminal: int, file: Path) -> None:
    plan = planned(pooled, 8)
    assert "hunter2" not in str(plan) and "hunter2" not in plan.canonical().decode()
    assert f"in {file}: pool_size 6 becomes 8" in str(plan)
    outcome = apply(plan, pooled, confirm=plan.confirmation)
    assert isinstance(outcome, Outcome) and outcome.status == "done", outcome
    assert file.read_text() == TEXT.replace("pool_size = 6", "pool_size = 8"), "and nothing else"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert not isinstance(plan.undo, str)
    back = pool_size.set_pool_size(pooled.database, **plan.undo.arguments)  # type: ignore[arg-type]
    outcome = apply(back, pooled, confirm=back.confirmation)
    assert isinstance(outcome, Outcome) and outcome.status == "done", outcome
    assert file.read_text() == TEXT
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_changed_since_the_plan(pooled: Environment, terminal: int, file: Path) -> None:
    plan = planned(pooled, 8)
    file.write_text(TEXT + "more = 1\n")
    with pytest.raises(Refused, match="the system has changed"):
        apply(plan, pooled, confirm=plan.confirmation)
    assert file.read_text() == TEXT + "more = 1\n"


def test_a_file_that_changes_right_before_the_act(file: Path) -> None:
    """The gap between the last check and the edit: a file that changed by a byte is left alone."""
    edit = step(file)
    file.write_text(TEXT + "more = 1\n")
    result = run_edit(edit)
    assert not result.had_effect and "has changed" in result.summary
    assert file.read_text() == TEXT + "more = 1\n"


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    assert run_edit(step(link)).had_effect
    assert link.is_symlink() and "pool_size = 8" in file.read_text()


def test_what_cannot_be_written_is_known_to_have_had_no_effect(file: Path, tmp_path: Path) -> None:
    edit = step(file)
    assert "cannot be read" in run_edit(step(file, path=str(tmp_path / "none"))).summary
    assert "pool_size has changed since" in run_edit(step(file, before="7")).summary
    if os.geteuid() == 0:
        return  # root writes everywhere
    tmp_path.chmod(0o500)
    try:
        result = run_edit(edit)
    finally:
        tmp_path.chmod(0o700)
    assert not result.had_effect and "could not be written" in result.summary
    assert file.read_text() == TEXT


def test_a_pool_that_does_not_fit_is_refused(pooled: Environment, file: Path) -> None:
    """E69: the runbook's 100, in each of two processes, against 57 slots."""
    plan = planned(pooled, 100)
    assert "do not fit" in plan.refused and not plan.steps
    assert "largest that fits" in plan.refused
    smaller = planned(pooled, 4)
    assert smaller.steps and not smaller.refused
    assert planned(pooled, 6).note == "it is 6 already"


def test_a_file_without_that_number(pooled: Environment, file: Path) -> None:
    for text in ("max = 3\n", "pool_size = 6\npool_size = 7\n", "pool_size = many\n", "pool_size = 'u:hunter2@h'\n"):
        file.write_text(text)
        plan = planned(pooled, 4)
        assert plan.refused.startswith("it cannot be planned"), text
        assert "hunter2" not in plan.refused
    file.unlink()
    assert "cannot be read" in planned(pooled, 4).refused


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("pool_size=5", "pool_size", "5"),
        ("a: 1\n  pool_size: 5\n", "pool_size", "5"),
        ("export POOL_SIZE='5'\n", "POOL_SIZE", "5"),
        ('pool_size = "5" ; as it was\r\nx = 1\r\n', "pool_size", "5"),
        ("my_pool_size = 4\npool_size = 5\npool_size_max = 6\n# pool_size = 7\n", "pool_size", "5"),
        ("db.pool.size = 5\ndbxpool.size = 6\n", "db.pool.size", "5"),
    ],
)
def test_the_line_of_a_key_is_found(text: str, key: str, value: str) -> None:
    found = ConfigLine.find(text, key)
    assert found.value == value
    assert found.replaced("77") == text[: found.start] + "77" + text[found.end :]
    assert ConfigLine.find(found.replaced("77"), key).value == "77"


@pytest.mark.parametrize("text", ["", "pool_size", "pool_size = -1", "pool_size = 5.5", "pool_size = 5 6"])
def test_a_value_that_is_not_a_plain_number(text: str) -> None:
    with pytest.raises(InputError):
        ConfigLine.find(text, "pool_size")
