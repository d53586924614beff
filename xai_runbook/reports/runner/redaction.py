"""The values of known secrets, and their masking in outputs."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, quote_plus

from xai_runbook.errors import SettingsError
from xai_runbook.model.secret import MASK, Secret

_SHORTEST = 4  # shorter values would mask ordinary text


class Mask:
    """Mask for known secret values, also in their usual encodings, in texts and in JSON values.

    A second line of defence: no secret should be in these texts in the first place.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = set()
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                spellings |= {
                    secret, repr(secret)[1:-1], quote(secret, safe=""), quote_plus(secret),
                    html.escape(secret), html.escape(secret, quote=False),
                    json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1],
                    base64.b64encode(secret.encode()).decode(), secret.encode().hex(),
                }  # fmt: skip
        self.spellings = sorted(spellings, key=len, reverse=True)
        self.longest = max(map(len, spellings), default=0)

    def __call__(self, text: str) -> str:
        """Return `text` with every secret in it masked."""
        for spelling in self.spellings:
            text = text.replace(spelling, MASK)
        return text

    def value(self, value: Any) -> Any:
        """Return `value` with every text in it masked; lists and dicts are changed in place."""
        if not self.spellings:
            return value
        if isinstance(value, str):
            return self(value)
        for key in value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            value[key] = self.value(value[key])
        return value


def known_secrets(environment: str = "") -> list[str]:
    """Return the values of an environment's read-only secrets. Write credentials are not resolved.

    Errors: SettingsError when the environment cannot be loaded; a secret that cannot be resolved is left out.
    """
    values: list[str] = []
    for secret in _secrets_read(environment):
        with suppress(SettingsError):
            values.append(secret.reveal())
    return values


def secret_variables(environment: str = "") -> tuple[str, ...]:
    """Return the names of the environment variables that hold an environment's read-only secrets.

    Errors: SettingsError when the environment cannot be loaded.
    """
    references = (secret.reference.partition(":") for secret in _secrets_read(environment))
    return tuple(name for kind, _, name in references if kind == "env")


def _secrets_read(environment: str) -> list[Secret]:
    from pydantic import BaseModel

    from xai_runbook.settings import loading
    from xai_runbook.settings.types import WriteCredential

    found: list[Secret] = []

    def walk(item: object) -> None:
        if isinstance(item, Secret):
            found.append(item)
        elif isinstance(item, dict):
            for value in item.values():
                walk(value)
        elif isinstance(item, list | tuple):
            for value in item:
                walk(value)
        elif isinstance(item, BaseModel) and not isinstance(item, WriteCredential):
            walk(vars(item))

    walk(loading.load(environment))
    return found
