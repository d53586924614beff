"""HTTP GET, and nothing but GET: no other method can be asked for here."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from xai_runbook.clients.http.deadline import within
from xai_runbook.errors import (
    AccessDenied,
    BadAnswer,
    CannotAsk,
    SettingsError,
    TimedOut,
    TooMuch,
    Unreachable,
    WrongServer,
    inert,
)
from xai_runbook.model.window import duration_seconds

if TYPE_CHECKING:
    from xai_runbook.model.secret import Secret
    from xai_runbook.settings.models import Access

MOST_BYTES = 256 * 2**20
_PIECE = 2**20


@dataclass(frozen=True)
class HttpAnswer:
    """One whole HTTP answer."""

    url: str
    status: int
    content_type: str
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as JSON. Errors: BadAnswer, which shows the start of what came instead."""
        import orjson

        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            shown = inert(self.body[:80].decode("utf-8", "replace"))
            kind = "an HTML page" if self.body.lstrip()[:1] == b"<" else "something that is not whole JSON"
            raise BadAnswer(
                f"answered with {kind}: {shown!r}", on=self.url, hint="is this the right address, or a proxy's page?"
            ) from None


def get(
    access: Access,
    base_url: str,
    path: str,
    parameters: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    informative: Sequence[int] = (),
    most_bytes: int = MOST_BYTES,
) -> HttpAnswer:
    """The whole answer to one GET, within the access's timeout. Redirects and proxies are not followed.

    `informative` are statuses outside 200-299 whose bodies are wanted all the same. Errors: Unreachable, TimedOut,
    AccessDenied (also 429), WrongServer (certificate, redirect, 404), BadAnswer, TooMuch; SettingsError where a secret
    or a TLS file cannot be used.
    """
    parts = urlsplit(base_url)
    target = f"{parts.path}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
    url = f"{parts.scheme}://{parts.netloc}{parts.path}{path}"  # without the query: it may be long, and it is logged
    seconds = duration_seconds(access.timeout)
    headers = {"Accept": "application/json", "User-Agent": "xai-runbook"}
    if access.auth_value is not None:
        headers[access.auth_header] = sendable(access.auth_value)
    connection = connection_to(access, parts.scheme, parts.hostname or "", parts.port, seconds)

    def give_up() -> None:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)

    started = time.monotonic()
    try:
        status, content_type, location, body = within(
            seconds, lambda: _ask(connection, target, headers, most_bytes, url), on=url, give_up=give_up
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise translated(error, url) from None
    finally:
        with suppress(OSError):
            connection.close()
    answer = HttpAnswer(url, status, content_type, body, time.monotonic() - started)
    if not 200 <= status < 300 and status not in informative:
        raise _refusal(answer, location)
    return answer


def sendable(secret: Secret) -> str:
    """The secret as a header's value. Errors: SettingsError where it cannot be one."""
    value = secret.reveal()
    if not value.isascii() or not value.isprintable():
        raise SettingsError(
            "the secret cannot be sent as a header: it has other characters than printable ASCII",
            on=secret.reference,
            hint="is it the right file, with the value alone on one line?",
        )
    return value


def connection_to(
    access: Access, scheme: str, host: str, port: int | None, seconds: float
) -> http.client.HTTPConnection:
    """A connection that is not open yet. Errors: SettingsError where a TLS file cannot be used."""
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=seconds + 1)  # a net: the deadline is the caller's
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
        if access.client_certificate:
            context.load_cert_chain(access.client_certificate, access.client_key)
    except OSError as error:
        raise SettingsError(
            f"a TLS file cannot be used: {error.strerror or 'not a certificate or key'}",
            on=f"{scheme}://{host}",
            hint="ca_file, client_certificate and client_key name PEM files that we may read",
        ) from None
    return http.client.HTTPSConnection(host, port, timeout=seconds + 1, context=context)


def _ask(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str], most_bytes: int, url: str
) -> tuple[int, str, str, bytes]:
    connection.request("GET", target, headers=dict(headers))
    with connection.getresponse() as response:
        if response.length is not None and response.length <= most_bytes:
            body = response.read()  # at once: half the time of pieces for a large answer; raises where it is cut short
        else:
            body = _in_pieces(response, most_bytes, url)
        told = response.headers
        return response.status, told.get("Content-Type", ""), told.get("Location", ""), body


def _in_pieces(response: http.client.HTTPResponse, most_bytes: int, url: str) -> bytes:
    """The body of an answer that is longer than we take, or does not say how long it is."""
    pieces, size = [], 0
    while piece := response.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > most_bytes:
            raise TooMuch(f"the answer is larger than {most_bytes} bytes", on=url, hint="ask for less at a time")
    return b"".join(pieces)


def translated(error: Exception, url: str) -> CannotAsk:
    """The error of ours for what a connection raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return WrongServer(
            f"its certificate is not to be trusted: {inert(error.verify_message)}", on=url, hint="ca_file, or the host"
        )
    if isinstance(error, ssl.SSLError):
        return WrongServer(f"no TLS could be agreed: {error.reason}", on=url, hint="is it http, or another port?")
    if isinstance(error, socket.gaierror):
        return Unreachable("no such host", on=url, hint="the name in the settings, and the resolver")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable("the connection was refused", on=url, hint="does it run, and on this port?")
    if isinstance(error, TimeoutError):
        return TimedOut("no answer in time", on=url, hint="is it overloaded, stopped or cut off?")
    if isinstance(error, http.client.RemoteDisconnected):
        return Unreachable("it hung up without an answer", on=url, hint="does it start or stop? Its log knows")
    if isinstance(error, http.client.IncompleteRead):
        return BadAnswer("the answer was cut short", on=url, hint="ask again; then read the server's log")
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return BadAnswer(
            f"what came is not HTTP ({type(error).__name__})", on=url, hint="is the port another server's?"
        )
    reason = error.strerror if isinstance(error, OSError) else None
    return Unreachable(f"the connection failed: {reason or type(error).__name__}", on=url, hint="network and firewall")


def _refusal(answer: HttpAnswer, location: str) -> CannotAsk:
    status = answer.status
    if status in (401, 403):
        return AccessDenied(f"we may not ask (HTTP {status})", on=answer.url, hint="auth_header and auth_value")
    if status == 429:
        return AccessDenied("we ask too often (HTTP 429)", on=answer.url, hint="lower requests_per_second, or wait")
    if 300 <= status < 400:
        return WrongServer(
            f"redirects to {inert(location, 200)!r} (HTTP {status})", on=answer.url, hint="name the final address"
        )
    if status == 404:
        return WrongServer("does not know this path (HTTP 404)", on=answer.url, hint="is it the right server and path?")
    return BadAnswer(f"failed with HTTP {status}", on=answer.url, hint="read that server's log")
