"""Which of our functions a module calls, found in its syntax tree: notebooks and tests are asked, not believed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple


class FunctionCall(NamedTuple):
    """One call of a function of ours."""

    function: str
    """Its dotted name, with import aliases resolved."""
    words: frozenset[str]
    """Names, attributes and texts of the function that makes it (its decorators too), or of the statement."""
    place: str
    """The test function that makes it; empty outside of one."""


def calls(code: str) -> list[FunctionCall]:
    """Every call of one of ours, wherever it stands in the code."""
    tree = ast.parse(code)
    names = _names(tree)
    found = []
    for place, part in _parts(tree):
        words = _words(part)
        for node in ast.walk(part):
            if isinstance(node, ast.Call) and (dotted := _dotted(node.func)):
                first, dot, rest = dotted.partition(".")
                function = f"{names.get(first, first)}{dot}{rest}"
                if function.startswith("xai_runbook."):
                    found.append(FunctionCall(function, words, place))
    return found


def _names(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _parts(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Each top-level function, or method of a top-level class, that is a test, by name; the rest without one."""
    for node in tree.body:
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            name = part.name if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) else ""
            prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
            yield f"{prefix}{name}" if name.startswith("test_") else "", part


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def _words(part: ast.AST) -> frozenset[str]:
    words: set[str] = set()
    for node in ast.walk(part):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.Constant(value=str(word)):
                words.add(word)
    return frozenset(words)
