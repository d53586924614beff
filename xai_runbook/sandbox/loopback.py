"""HTTP requests to the sandbox's own servers. They listen on loopback, so proxies in the environment are ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from urllib.request import Request

_OPENER = build_opener(ProxyHandler({}))


def urlopen(request: str | Request, *, timeout: float) -> Any:
    """Open the URL as urllib.request.urlopen does, without a proxy. Errors: OSError."""
    return _OPENER.open(request, timeout=timeout)


def answers_ok(url: str) -> bool:
    """Return whether the URL answers with status 200 within a second. Errors: OSError if it does not answer."""
    with urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
