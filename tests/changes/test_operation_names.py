"""Operations have public names, SECTION.function, which are unique and do not depend on modules."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.changes import registry
from xai_runbook.environment import environment_parameters
from xai_runbook.errors import InputError
from xai_runbook.model.plans import Call, Condition
from xai_runbook.model.steps import operation_name
from xai_runbook.operations.backups import dumps, restores
from xai_runbook.operations.database import sessions

EVERY = registry.all_operations()
CHANGES = registry.change_names()


def test_names_are_unique_in_their_section() -> None:
    assert [name for name, count in Counter(name for name, _ in EVERY).items() if count > 1] == []
    assert len(EVERY) > 200 and {"database.terminate", "backups.dump", "grafana.import_dashboards"} <= set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_by_its_name(name: str) -> None:
    assert registry.find_change(name) is dict(EVERY)[name]
    assert operation_name(registry.find_change(name)) == name


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_takes_handles_by_place_and_its_arguments_by_name(name: str) -> None:
    """So a Call can tell them apart without an Environment."""
    for parameter in inspect.signature(registry.find_change(name)).parameters.values():
        is_argument = parameter.name not in environment_parameters()
        assert (parameter.kind is parameter.KEYWORD_ONLY) is is_argument, parameter.name


def nested() -> Callable[..., object]:
    def inner() -> None: ...

    inner.__module__ = sessions.__name__
    return inner


@pytest.mark.parametrize(
    "function", [print, nested(), operation_name, sessions._sessions, lambda: 0, len], ids=lambda each: each.__name__
)
def test_only_operations_have_a_public_name(function: Callable[..., object]) -> None:
    with pytest.raises(InputError, match="is not an operation"):
        operation_name(function)


def condition(query: Callable[..., object], **arguments: Any) -> Condition:
    return Condition.of(query, column="state", comparison="==", value="x", **arguments)


def test_a_condition_holds_the_public_name_and_the_arguments() -> None:
    expected = Condition(
        query="backups.backup_state", arguments={"name": "b"}, column="state", comparison="==", value="x"
    )
    assert condition(dumps.backup_state, name="b") == condition(partial(dumps.backup_state, name="b")) == expected
    assert condition(restores.other_sessions, names=("a", "b")).arguments == {"names": ["a", "b"]}
    assert Call.of(restores.swap, restored="a") == Call(change="backups.swap", arguments={"restored": "a"})


@pytest.mark.parametrize(
    ("query", "arguments", "message"),
    [
        (dumps.backup_state, {}, "backup_state needs name"),
        (dumps.backup_state, {"name": "b", "other": 1}, "backup_state takes no 'other'"),
        (dumps.backup_state, {"name": "b", "backups": "x"}, "backup_state takes no 'backups'"),
        (dumps.backup_state, {"name": object()}, "name cannot be object"),
        (partial(dumps.backup_state, "a handle"), {"name": "b"}, "a plan cannot hold handles"),
        (print, {}, "is not an operation"),
    ],
)
def test_arguments_that_a_query_does_not_take_are_refused(
    query: Callable[..., object], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        condition(query, **arguments)
    with pytest.raises(InputError, match=message):
        Call.of(query, **arguments)


# names in texts


def texts(path: Path) -> list[str]:
    """The string literals of a module, the docstrings among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_operations_name_operations_by_the_function_itself(checkout: Path) -> None:
    known = {name for name, _ in EVERY} | {f"{function.__module__}.{function.__name__}" for _, function in EVERY}
    package = checkout / "xai_runbook" / "operations"
    found = [
        f"{path.relative_to(package)}: {text}"
        for path in package.rglob("*.py")
        for text in texts(path)
        if text in known or re.search(r"xai_runbook\.operations\.\w", text)
    ]
    assert found == []


def test_plans_that_texts_mention_exist(checkout: Path) -> None:
    suffixes = {".py", ".ipynb", ".toml", ".md", ".sql", ".j2"}
    paths = [checkout / "README.md", checkout / "CONTRIBUTING.md", checkout / "Makefile"]
    for folder in ("xai_runbook", "notebooks", "docs"):
        paths += [path for path in (checkout / folder).rglob("*") if path.suffix in suffixes]
    mentioned = {
        (path.relative_to(checkout).as_posix(), name)
        for path in paths
        for name in re.findall(r"\bplan `?([a-z_]+\.[a-z_]+)\b(?!\.)", path.read_text(encoding="utf-8"))
    }
    assert len(mentioned) > 10
    assert {(path, name) for path, name in mentioned if name not in CHANGES} == set()


def test_texts_name_operations_by_section_and_not_by_module(checkout: Path) -> None:
    known = {name for name, _ in EVERY}
    by_module = {f"{function.__module__.rpartition('.')[2].lstrip('_')}.{function.__name__}" for _, function in EVERY}
    found = {
        (path.name, name)
        for path in (checkout / "xai_runbook").rglob("*.py")
        for text in texts(path)
        for name in re.findall(r"(?<![\w.])([a-z_]+\.[a-z_]+)\b", text)
        if name in by_module - known
    }
    assert found == set()
