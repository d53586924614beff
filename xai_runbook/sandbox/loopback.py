"""Requests to the sandbox's own servers: they listen on loopback, so no proxy of the environment may be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from urllib.request import Request

_OPENER = build_opener(ProxyHandler({}))


def urlopen(request: str | Request, *, timeout: float) -> Any:
    """Return the response to use in a with block, as urllib.request.urlopen does. Errors: OSError."""
    return _OPENER.open(request, timeout=timeout)


def answers_ok(url: str) -> bool:
    """Whether the URL answers with status 200 within a second. Errors: OSError where it does not answer."""
    with urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
