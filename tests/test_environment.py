"""The parts of an environment are declared once; whatever else names them is derived, or held equal here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from xai_runbook.changes.steps import http
from xai_runbook.cli import ping
from xai_runbook.environment import Environment
from xai_runbook.model.secret import Secret
from xai_runbook.model.steps import HttpCall, Role
from xai_runbook.operations import reachability
from xai_runbook.settings.limits import Limits
from xai_runbook.settings.models import PARTS, Settings
from xai_runbook.settings.types import WriteCredential


def test_there_is_a_handle_for_each_part() -> None:
    handles = [name for name, value in vars(Environment).items() if isinstance(value, cached_property)]
    assert sorted(handles) == sorted([*PARTS, "sandbox"])


def test_requests_are_sent_to_the_parts_whose_operator_makes_them() -> None:
    assert get_args(get_type_hints(HttpCall)["part"]) == http.PARTS


def test_every_part_that_can_answer_is_pinged() -> None:
    assert [part for part in PARTS if not hasattr(reachability, part)] == list(ping.NO_SERVERS)


def holders(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables that hold a secret, by their path."""

    def within(annotation: Any) -> Iterator[type]:
        for part in get_args(annotation):
            yield from within(part)
        if isinstance(annotation, type):
            yield annotation

    for name, field in model.model_fields.items():
        for kind in within(field.annotation):
            if issubclass(kind, Secret):
                yield path, model
            elif issubclass(kind, BaseModel) and kind is not Limits:
                yield from holders(kind, f"{path}.{name}".lstrip("."))


def test_whatever_changes_act_with_is_a_write_credential() -> None:
    """And of all other tables with a secret the secret is a handle's own: it reads with it."""
    found = dict(holders(Settings))
    writing = {path for path, model in found.items() if issubclass(model, WriteCredential)}
    assert writing == {*get_args(Role), *(f"{part}.operator" for part in http.PARTS)}
    assert found.keys() - writing <= {*PARTS, "nodes.node", "nodes.reference"}


def test_a_handle_carries_no_settings_of_other_parts(env: Environment) -> None:
    def reached(item: object, seen: set[int]) -> Iterator[object]:
        if id(item) in seen or not type(item).__module__.startswith("xai_runbook."):
            return
        seen.add(id(item))
        yield item
        for value in vars(item).values() if hasattr(item, "__dict__") else ():
            yield from reached(value, seen)

    for part in [*PARTS, "sandbox"]:
        whole = [
            item for item in reached(getattr(env, part), set()) if isinstance(item, Settings | Environment | Limits)
        ]
        assert whole == [], part


def test_no_operation_takes_the_whole_settings(checkout: Path) -> None:
    whole = re.compile(r"(?<!\w)(Settings|Environment)(?!\w)")
    named = {
        path.relative_to(checkout).as_posix()
        for folder in ("operations", "clients", "dashboards", "charts")
        for path in (checkout / "xai_runbook" / folder).rglob("*.py")
        if any(whole.search(ast.unparse(node)) for node in annotations(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert named == set()


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """What the arguments of functions are declared to be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.annotation
