"""A notebook's parameters: those it declares, and the conversion of given values to their types.

papermill writes the *names* of parameters into the notebook as code, and formats paths with their values. Therefore it
only gets names that the notebook itself declares, in the cell tagged `parameters`, as assignments of literals.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from typing import Any

from xai_runbook.errors import InputError, inert
from xai_runbook.system.suggestions import suggestion

_MAX_CHARACTERS = 10_000  # characters of one value


def declared(notebook: Mapping[str, Any], name: str) -> dict[str, object]:
    """Return the parameters that a notebook (as JSON) declares and their defaults; none without a parameters cell.

    The cell is parsed, never run. Errors: InputError, on `name`, when there are two such cells or one contains
    anything but assignments of literals.
    """
    sources = [
        text(cell.get("source"))
        for cell in notebook.get("cells", [])
        if cell.get("cell_type") == "code" and "parameters" in cell.get("metadata", {}).get("tags", [])
    ]
    if len(sources) > 1:
        raise InputError(f"{len(sources)} cells are tagged `parameters`", on=name, hint="keep one")
    parameters: dict[str, object] = {}
    for source in sources:
        try:
            statements = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError):
            raise InputError("the parameters cell is not valid Python", on=name) from None
        for statement in statements:
            parameters.update(_assignment(statement, name))
    return parameters


def _assignment(statement: ast.stmt, name: str) -> dict[str, object]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=target)], value=value):
            pass
        case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
            pass
        case ast.Expr(value=ast.Constant(value=str())):
            return {}
        case _:
            raise InputError(
                f"line {statement.lineno} of the parameters cell is not an assignment of a literal",
                on=name,
                hint='one line per parameter: window = "24h"',
            )
    try:
        return {target: ast.literal_eval(value)}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise InputError(f"the default of parameter {target} is not a literal", on=name) from None


def text(source: object) -> str:
    """Return a cell's source, stored as a string or a list of lines, as a string; "" for anything else."""
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def parse_pairs(pairs: Iterable[str]) -> dict[str, object]:
    """Return the parameters in texts such as "window=6h". Errors: InputError, also for a name given twice."""
    parameters: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"invalid parameter {inert(pair, 60)!r}", hint="-p NAME=VALUE, such as -p window=6h")
        if name in parameters:
            raise InputError(f"parameter {name} is given twice", hint="give it once")
        parameters[name] = value
    return parameters


def refuse_unknown(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise InputError, which lists `known`, unless each of `names` is one of them."""
    choices = sorted(set(known))
    for name in names:
        if name not in choices:
            hint = suggestion(name, choices) if choices else "these notebooks declare no parameters"
            raise InputError(f"no notebook declares a parameter {inert(name, 60)!r}", hint=hint)


def convert(defaults: Mapping[str, object], values: Mapping[str, object]) -> dict[str, object]:
    """Return the `values` that `defaults` declares, converted to the type of the default.

    >>> convert({"window": "24h", "limit": 0.5, "deep": False}, {"window": "6h", "limit": "1", "deep": "true", "x": 1})
    {'window': '6h', 'limit': 1.0, 'deep': True}

    Errors: InputError for a value that cannot be converted.
    """
    return {name: _convert(name, default, values[name]) for name, default in defaults.items() if name in values}


def _convert(name: str, default: object, value: object) -> object:
    target_type = type(default)
    converted = value
    if isinstance(value, str) and target_type is not str and default is not None:
        converted = _parsed(target_type, value.strip())
    if target_type is float and type(converted) is int:
        converted = float(converted)
    is_scalar = isinstance(converted, str | int | float | bool)
    valid = is_scalar if default is None else type(converted) is target_type
    is_finite = not isinstance(converted, float) or math.isfinite(converted)
    if not valid or not is_finite or len(str(converted)) > _MAX_CHARACTERS:
        raise InputError(
            f"parameter {name} cannot be {inert(repr(value), 60)}", hint=f"its default is {inert(repr(default), 60)}"
        )
    return converted


def _parsed(target_type: type, value: str) -> object:
    if target_type is bool:
        return {"true": True, "false": False}.get(value.lower())
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
