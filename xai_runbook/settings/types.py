"""Types of settings: tables and validated texts. No error message repeats a value, because it may be a secret."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from xai_runbook.errors import InputError
from xai_runbook.model.secret import Secret, WriteSecret
from xai_runbook.model.window import duration_seconds


class Model(BaseModel):
    """A table of the settings: it refuses unknown keys and cannot be changed."""

    # TOML reads a name of digits alone (an identifier, a role) as a number
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class WriteCredential(Model):
    """A credential that can change something on a server. Reports and checks never resolve its secrets."""

    @field_validator("*")
    @classmethod
    def _protect(cls, value: object) -> object:
        return WriteSecret(value.reference) if isinstance(value, Secret) else value


class InvalidKey(ValueError):
    """A validation error of a table, about the key at `loc` in it."""

    def __init__(self, message: str, *loc: str | int) -> None:
        super().__init__(message)
        self.loc = loc


def _duration(text: str) -> str:
    try:
        duration_seconds(text)
    except InputError as error:
        raise ValueError(f"invalid duration; expected {error.hint}") from None
    return text


def _timeout(text: str) -> str:
    if not 0.1 <= duration_seconds(_duration(text)) <= 600:
        raise ValueError("a timeout must be from 100ms to 10m")
    return text


def _step(text: str) -> str:
    if not duration_seconds(_duration(text)):
        raise ValueError("a step must be greater than 0s")
    return text


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("invalid URL: its host or port cannot be parsed") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL must start with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("a URL must not contain user, password, query or fragment; use auth_header and auth_value")
    if re.search(r"[^!-~]", text):
        raise ValueError("a URL must be ASCII without spaces; write a host with other letters by its xn-- name")
    return text.rstrip("/")


Duration = Annotated[str, AfterValidator(_duration)]
Timeout = Annotated[str, AfterValidator(_timeout)]
Step = Annotated[str, AfterValidator(_step)]
Url = Annotated[str, AfterValidator(_url)]
Folder = Annotated[str, Field(pattern=r"^(/|~/)[^\x00-\x1f]+$")]
"""An absolute path, or one that starts with ~/."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]
Pointer = Annotated[str, Field(pattern=r"^(/([^/~]|~[01])*)+$")]
Path = Annotated[str, Field(pattern=r"^/[!-\"$-~]*$")]
"""The path of a request, with or without a query."""
HeightIs = Literal["index", "count"]
