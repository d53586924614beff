"""Operations by their public names: find a change, make its plan, run a query."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any, cast

from xai_runbook import operations
from xai_runbook.environment import environment_parameters
from xai_runbook.errors import Refused
from xai_runbook.model.plans import Argument, Plan
from xai_runbook.model.steps import check_arguments, operation_name
from xai_runbook.system.suggestions import suggestion

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.environment import Environment


def find_change(name: str) -> Callable[..., Plan]:
    """Return the change of that public name, such as `database.terminate`.

    Only functions of xai_runbook.operations that are marked with @change are found. Errors: Refused.
    """
    function = _function(name)
    if function is None or not getattr(function, "is_change", False):
        raise Refused(f"there is no change {name!r:.100}", hint=suggestion(name, change_names()))
    return cast("Callable[..., Plan]", function)


def change_names() -> list[str]:
    """Return the public name of every change, sorted."""
    return sorted(name for name, function in all_operations() if getattr(function, "is_change", False))


def all_operations() -> list[tuple[str, Callable[..., Any]]]:
    """Return the public name and the function of every operation. Imports all of their modules."""
    modules = [module for section in _sections().values() for module in section]
    return [
        (operation_name(value), value)
        for module in modules
        for name, value in vars(import_module(module)).items()
        if _is_own(value, module) and not name.startswith("_")
    ]


def make_plan(env: Environment, name: str, arguments: Mapping[str, Argument]) -> Plan:
    """Return the plan of the change of that name, for the present state of the system. Errors: Refused, InputError."""
    return cast("Plan", _call(env, find_change(name), arguments))


def run_query(env: Environment, name: str, arguments: Mapping[str, Argument]) -> DataFrame:
    """Run the query of that name and return its frame. Errors: Refused if there is none; those of the query."""
    function = _function(name)
    if function is None or getattr(function, "is_change", False):
        raise Refused(f"there is no query {name!r:.100}", hint="make a new plan")
    return cast("DataFrame", _call(env, function, arguments))


def arguments_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of the function that its caller must give, not the environment."""
    parameters = inspect.signature(function).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in environment_parameters()}


def _call(env: Environment, function: Callable[..., Any], arguments: Mapping[str, Argument]) -> Any:
    provided = environment_parameters() & inspect.signature(function).parameters.keys()
    handles = {name: getattr(env, name) for name in provided}
    return function(**handles, **check_arguments(function, arguments, arguments_of(function)))


def _function(name: str) -> Callable[..., Any] | None:
    """Return the operation of that public name, or None. Imports only modules of its section."""
    section, _, function = name.partition(".")
    if function.startswith("_"):
        return None
    for module in _sections().get(section, ()):
        value = vars(import_module(module)).get(function)
        if _is_own(value, module):
            return cast("Callable[..., Any]", value)
    return None


def _is_own(value: object, module: str) -> bool:
    """Return whether the module defines this function, rather than imports it."""
    return inspect.isfunction(value) and value.__module__ == module


@cache
def _sections() -> Mapping[str, list[str]]:
    """Return the names of the modules of each section."""
    sections: dict[str, list[str]] = defaultdict(list)
    for module in walk_packages(operations.__path__, f"{operations.__name__}."):
        sections[module.name.split(".")[2]].append(module.name)
    return dict(sections)
