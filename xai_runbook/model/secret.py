"""References to secrets, which hold where a secret is kept, never its value; and access to write credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xai_runbook.errors import Refused, SettingsError

MASK = "********"
_REFERENCE = re.compile(r"(env):([A-Za-z_][A-Za-z0-9_]*)|(file):(/.+|~/.+)")


class Secret:
    """A reference such as `env:PROMETHEUS_TOKEN` or `file:~/.secrets/db`, looked up only when `reveal` is called.

    Text, repr, format, JSON and pickle show the mask or the reference; the value is never stored.
    """

    __slots__ = ("reference",)

    def __init__(self, reference: str) -> None:
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            # the value is not shown: it may be the secret itself
            raise SettingsError(
                "a secret must be a reference, not a value", hint='"env:NAME_OF_VARIABLE" or "file:/path/to/file"'
            )
        self.reference = reference

    def reveal(self) -> str:
        """Read and return the secret. Errors: SettingsError if the variable or file is missing or empty."""
        kind, _, name = self.reference.partition(":")
        if kind == "env":
            value = os.environ.get(name, "")
        else:
            try:
                value = Path(name).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                raise SettingsError(f"the secret cannot be read: {reason}", on=self.reference) from None
        if not value:
            raise SettingsError("the secret is empty or not set", on=self.reference, hint="set it, then run again")
        return value

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def validate(value: object) -> Secret:
            if isinstance(value, Secret):
                return value
            try:
                return cls(value)  # type: ignore[arg-type]
            except SettingsError as error:
                raise ValueError(f"{error.what}: {error.hint}") from None

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: secret.reference)
        )


class WriteSecret(Secret):
    """A secret that can change something. It is resolved only while a plan is applied; see `write_access`."""

    __slots__ = ()

    def reveal(self) -> str:
        """Read and return the secret. Errors: Refused without write access; else as for any secret."""
        require_write_access(self.reference)
        return super().reveal()


# for the process: other threads than the one that applies a plan resolve credentials
_granted: list[bool] = []
_forbidden: list[bool] = []


@contextmanager
def write_access() -> Iterator[None]:
    """Allow this process to resolve write credentials within the block.

    `apply` uses it after its last check, and `reconcile` while it holds the server's lock.
    Errors: Refused within `read_only`.
    """
    if _forbidden:
        raise Refused("reports and checks may not use a credential that can change something", hint="xai-runbook apply")
    _granted.append(True)
    try:
        yield
    finally:
        _granted.pop()


@contextmanager
def read_only() -> Iterator[None]:
    """Refuse write access in this process within the block, also to `apply`: for reports and checks."""
    _forbidden.append(True)
    try:
        yield
    finally:
        _forbidden.pop()


def require_write_access(credential: str) -> None:
    """Raise Refused unless a plan is being applied in this process."""
    if not _granted:
        raise Refused(
            "a credential that can change something is resolved only while a plan is applied",
            on=credential,
            hint="apply(plan, env, confirm=...), or xai-runbook apply FILE",
        )
