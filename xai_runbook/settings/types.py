"""The kinds of text and table that settings are written in. No complaint repeats a value, which may be a secret."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from xai_runbook.errors import InputError
from xai_runbook.model.secret import Secret, WriteSecret
from xai_runbook.model.window import duration_seconds


class Model(BaseModel):
    """Unknown keys are refused; what was read stays as it was read."""

    # a name of digits alone (an identifier, a role) is a number to TOML, and meant as text
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class WriteCredential(Model):
    """A credential that can change something in the user's servers. Reports and checks never resolve its secrets."""

    @field_validator("*")
    @classmethod
    def _protect(cls, value: object) -> object:
        return WriteSecret(value.reference) if isinstance(value, Secret) else value


class MisplacedKey(ValueError):
    """A complaint of a whole table about the key at `loc` in it."""

    def __init__(self, what: str, *loc: str | int) -> None:
        super().__init__(what)
        self.loc = loc


def _duration(text: str) -> str:
    try:
        duration_seconds(text)
    except InputError as error:
        raise ValueError(f"is not a duration; write {error.hint}") from None
    return text


def _timeout(text: str) -> str:
    if not 0.1 <= duration_seconds(_duration(text)) <= 600:
        raise ValueError("a timeout lasts from 100ms to 10m")
    return text


def _step(text: str) -> str:
    if not duration_seconds(_duration(text)):
        raise ValueError("a step of no time never arrives")
    return text


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address: its host or port cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an address starts with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("an address has no user, password, query or fragment in it; use auth_header and auth_value")
    if re.search(r"[^!-~]", text):
        raise ValueError("an address has no spaces and only ASCII in it; a host of other letters has an xn-- name")
    return text.rstrip("/")


Duration = Annotated[str, AfterValidator(_duration)]
Timeout = Annotated[str, AfterValidator(_timeout)]
Step = Annotated[str, AfterValidator(_step)]
Url = Annotated[str, AfterValidator(_url)]
Folder = Annotated[str, Field(pattern=r"^(/|~/)[^\x00-\x1f]+$")]
"""An absolute path, or one in this user's home."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
MetricName = Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]
Pointer = Annotated[str, Field(pattern=r"^(/([^/~]|~[01])*)+$")]
Path = Annotated[str, Field(pattern=r"^/[!-\"$-~]*$")]
"""The path of a request, perhaps with its query."""
HeightIs = Literal["index", "count"]
