"""From a change's dotted name to the function, and to a plan in the world as it is now."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any, cast

from xai_runbook.environment import given
from xai_runbook.errors import InputError, Refused
from xai_runbook.model.plans import Argument, Plan

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.environment import Environment

_OURS = re.compile(r"xai_runbook\.operations(\.[a-z][a-z0-9_]*)+")


def named(dotted: str) -> Callable[..., Plan]:
    """The change of that name; `database.terminate` is short for xai_runbook.operations.database.sessions.terminate.

    Only functions of xai_runbook.operations that are marked as changes are ever found. Errors: Refused.
    """
    whole = dotted if dotted.startswith("xai_runbook.") else f"xai_runbook.operations.{dotted}"
    found = _function(whole)
    if found is None or not getattr(found, "is_change", False):
        raise Refused(
            f"{dotted!r:.100} is not one of our changes", hint=f"one of {', '.join(short(name) for name in names())}"
        )
    return cast("Callable[..., Plan]", found)


def short(dotted: str) -> str:
    """The name without `xai_runbook.operations.`."""
    return dotted.removeprefix("xai_runbook.operations.")


def names() -> list[str]:
    """The dotted name of every change, sorted."""
    package = import_module("xai_runbook.operations")
    found = []
    for module in walk_packages(package.__path__, "xai_runbook.operations."):
        for name, value in vars(import_module(module.name)).items():
            if getattr(value, "is_change", False) and value.__module__ == module.name:
                found.append(f"{module.name}.{name}")
    return sorted(found)


def planned(env: Environment, dotted: str, arguments: Mapping[str, Argument]) -> Plan:
    """The plan of that change with those arguments, from the world as it is now. Errors: Refused, InputError."""
    function = named(dotted)
    return function(**_given(env, function), **_checked(function, arguments))


def asked(env: Environment, dotted: str, arguments: Mapping[str, Argument]) -> DataFrame:
    """What a query of ours answers. Errors: Refused for any other name."""
    function = _function(dotted)
    if function is None or getattr(function, "is_change", False):
        raise Refused(f"{dotted!r:.100} is not one of our queries", hint="make the plan anew")
    return cast("DataFrame", function(**_given(env, function), **_checked(function, arguments)))


def _function(dotted: str) -> Callable[..., Any] | None:
    if not _OURS.fullmatch(dotted):
        return None
    module, _, name = dotted.rpartition(".")
    try:
        value = getattr(import_module(module), name, None)
    except ImportError:
        return None
    # what a module merely imported is not its own
    return value if inspect.isfunction(value) and value.__module__ == module else None


def _given(env: Environment, function: Callable[..., Any]) -> dict[str, Any]:
    return {name: getattr(env, name) for name in inspect.signature(function).parameters if name in given()}


def _checked(function: Callable[..., Any], arguments: Mapping[str, Argument]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    known = [name for name in parameters if name not in given()]
    for name in known:
        if name not in arguments and parameters[name].default is inspect.Parameter.empty:
            raise InputError(f"{function.__name__} needs {name}")
    for name in arguments:
        if name not in known:
            raise InputError(
                f"{function.__name__} takes no {name!r:.60}", hint=f"it takes {', '.join(known) or 'none'}"
            )
    return dict(arguments)
