"""Calls of this package's functions in a module's syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple


class FunctionCall(NamedTuple):
    """One call of a function of this package."""

    function: str
    """Dotted name of the called function, with import aliases resolved."""
    names: frozenset[str]
    """Names, attributes and string constants in the calling function (with decorators) or top-level statement."""
    test: str
    """The test function that makes the call; empty elsewhere."""


def calls(code: str) -> list[FunctionCall]:
    """Return every call of a function of this package."""
    tree = ast.parse(code)
    imported = _imported_names(tree)
    found = []
    for test, part in _parts(tree):
        names = _names_in(part)
        for node in ast.walk(part):
            if isinstance(node, ast.Call) and (dotted := _dotted(node.func)):
                first, dot, rest = dotted.partition(".")
                function = f"{imported.get(first, first)}{dot}{rest}"
                if function.startswith("xai_runbook."):
                    found.append(FunctionCall(function, names, test))
    return found


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Return the full name of each imported name."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _parts(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield the top-level statements and methods, each with its test's name, or "" if it is not a test."""
    for node in tree.body:
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            name = part.name if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) else ""
            prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
            yield f"{prefix}{name}" if name.startswith("test_") else "", part


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        prefix = _dotted(node.value)
        return f"{prefix}.{node.attr}" if prefix else ""
    return node.id if isinstance(node, ast.Name) else ""


def _names_in(part: ast.AST) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(part):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                names.add(name)
    return frozenset(names)
