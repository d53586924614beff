"""The values in a plan: facts that servers answered, as exact text, and arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from xai_runbook.errors import InputError

Argument = str | int | float | bool | None | list[str] | list[int]


def fact(value: object) -> str | None:
    """Return a scalar of a server's answer as exact text: numbers in full, times in UTC with microseconds.

    Take it from the rows, before pandas can turn 2^53 + 1 into 2^53. Errors: InputError for any other type.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        return require_utf8(value)
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    raise InputError(f"a plan cannot hold {type(value).__name__} {value!r:.80}", hint="a scalar: text, number, time")


def require_utf8(value: str) -> str:
    """Return the text. Errors: InputError if it cannot be encoded as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, such as from undecodable bytes of a command line
        raise InputError(f"a plan cannot hold {value!r:.80}", hint="valid UTF-8 text") from None
    return value


def argument(name: str, value: object) -> Argument:
    """Return the value as a plan holds it: a tuple becomes a list. Errors: InputError if a plan cannot hold it."""
    if isinstance(value, str):
        return require_utf8(value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return [require_utf8(item) for item in value]
        if all(type(item) is int for item in value):
            return list(value)
    raise InputError(f"{name} cannot be {type(value).__name__}", hint="text, a number, or a list of either")


def facts(row: Mapping[str, object]) -> dict[str, str | None]:
    """Return the row with every value as a `fact`."""
    return {key: fact(value) for key, value in row.items()}
