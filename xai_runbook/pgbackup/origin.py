"""The server that a backup is of: its system identifier or, if that is not readable, its address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from xai_runbook.model.parts import UNKNOWN_IDENTIFIER

UNKNOWN = "unknown"
"""Origin of a backup whose manifest names no server."""


def origin(facts: Mapping[str, Any]) -> str:
    """Return the server that a manifest or an identity names: its identifier, its address, or `UNKNOWN`."""
    identifier, address = str(facts.get("system_identifier") or ""), str(facts.get("server") or "")
    if identifier and identifier != UNKNOWN_IDENTIFIER:
        return identifier
    return address if address and identifier else UNKNOWN


def named_address(service: str | None, host: str | None, port: object, *, tunnelled: bool) -> str:
    """Return the server's address as the settings name it. The port of a tunnel varies and is left out."""
    return f"service={service}" if service else f"{host}" if tunnelled else f"{host}:{port}"


def address() -> str:
    """Return the address that libpq's environment names, in the form of `named_address`."""
    host = os.environ.get("PGHOST", "localhost")
    return named_address(
        os.environ.get("PGSERVICE"), host, os.environ.get("PGPORT", "5432"), tunnelled="PGHOSTADDR" in os.environ
    )
