"""The operations that query a database, found by their signatures, so that no list has to be kept."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from xai_runbook import operations

ARGUMENTS: dict[str, dict[str, Any]] = {
    "examination": {"tables": ["public.blocks"]},
    "explain": {"statement": "SELECT count(*) FROM pg_catalog.pg_class"},
    "watch_lag": {"interval": "1s", "duration": "1s"},
    "watch_connections": {"interval": "1s", "duration": "1s"},
}
"""Arguments of operations that have required parameters."""


def arguments(name: str) -> dict[str, Any]:
    """Return the arguments of `module.function`."""
    return ARGUMENTS.get(name.rpartition(".")[2], {})


def queries() -> list[tuple[str, Callable[..., Any]]]:
    """Return the operations that take one Database and need no arguments but those of ARGUMENTS."""
    found = []
    for module in pkgutil.walk_packages(operations.__path__, f"{operations.__name__}."):
        loaded = importlib.import_module(module.name)
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            if function.__module__ != loaded.__name__ or name.startswith(("_", "check_")):
                continue
            parameters = list(inspect.signature(function).parameters.values())
            required = [p for p in parameters[1:] if p.default is p.empty]
            returns = inspect.signature(function).return_annotation
            matches = parameters and parameters[0].annotation == "Database" and returns == "DataFrame"
            is_answerable = {p.name for p in required} <= set(ARGUMENTS.get(name, {}))
            if matches and is_answerable and not hasattr(function, "is_change"):
                found.append((f"{module.name.removeprefix('xai_runbook.operations.')}.{name}", function))
    return found
