"""Validation of untrusted data by pydantic: plan files, findings in notebooks, acknowledgements, the journal's head."""

from __future__ import annotations

import json
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def validated(kind: type[T], data: object) -> T:
    """Return the dataclass `kind` with the fields in `data`, which is decoded JSON or TOML.

    >>> from xai_runbook.model.findings import Finding
    >>> validated(Finding, {"name": "pool", "status": "fine", "summary": ""})
    Traceback (most recent call last):
    ValueError: status: Input should be 'ok', 'alert' or 'unknown'

    Errors: ValueError of one line, which names the field and does not show its value.
    """
    from pydantic import ValidationError  # takes long to import, and most commands validate nothing

    try:
        # strict validation of JSON accepts a list for a tuple and a text for an enum or a time, and nothing else
        content = json.dumps(data, ensure_ascii=False, default=_time_text).encode("utf-8", "replace")
        return cast("T", _adapter(cast("Any", kind)).validate_json(content, strict=True))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"{field}: {first['msg']}" if field else first["msg"]) from None
    except (TypeError, RecursionError):
        raise ValueError("neither JSON nor TOML holds such values") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _time_text(value: object) -> str:
    if isinstance(value, date):  # or a datetime
        return value.isoformat()
    raise TypeError(type(value).__name__)
