"""What a plan holds of the world: plain scalars as text that loses nothing, so that equal worlds give equal plans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from xai_runbook.errors import InputError


def fact(value: object) -> str | None:
    """A scalar that a server answered with, as text that loses nothing: numbers in full, times in UTC microseconds.

    Taken from the rows, before pandas could make 2^53 of 2^53 + 1. Errors: InputError for any other type.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        return plain(value)
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


def plain(value: str) -> str:
    """The text itself. Errors: InputError where it is none that could be written down."""
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, such as undecodable bytes of a command line
        raise InputError(f"a plan cannot hold {value!r:.80}", hint="text that can be written as UTF-8") from None
    return value


def facts(row: Mapping[str, object]) -> dict[str, str | None]:
    """The row with every value as a `fact`."""
    return {key: fact(value) for key, value in row.items()}
