"""HTTP GET requests; this module cannot send any other method."""

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
    from xai_runbook.settings.models import AccessSettings

MAX_BYTES = 256 * 2**20
_PIECE = 2**20


@dataclass(frozen=True)
class HttpAnswer:
    """A complete HTTP response."""

    url: str
    status: int
    content_type: str
    body: bytes
    seconds: float

    def json(self) -> Any:
        """Return the body as JSON. Errors: BadAnswer, which shows the start of the body."""
        import orjson

        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            start = inert(self.body[:80].decode("utf-8", "replace"))
            kind = "an HTML page" if self.body.lstrip()[:1] == b"<" else "invalid JSON"
            raise BadAnswer(
                f"answered with {kind}: {start!r}", on=self.url, hint="check the URL; it may be the page of a proxy"
            ) from None


def get(
    access: AccessSettings,
    base_url: str,
    path: str,
    parameters: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    informative: Sequence[int] = (),
    max_bytes: int = MAX_BYTES,
) -> HttpAnswer:
    """Send one GET and return the whole answer, within the access's timeout. Redirects and proxies are not followed.

    `informative` lists statuses other than 2xx whose answers are returned too. Errors: Unreachable, TimedOut,
    AccessDenied (also 429), WrongServer (certificate, redirect, 404), BadAnswer, TooMuch; SettingsError if a secret
    or a TLS file cannot be used.
    """
    parts = urlsplit(base_url)
    target = f"{parts.path}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
    url = f"{parts.scheme}://{parts.netloc}{parts.path}{path}"  # for messages: without the query, which may be long
    seconds = duration_seconds(access.timeout)
    headers = {"Accept": "application/json", "User-Agent": "xai-runbook"}
    if access.auth_value is not None:
        headers[access.auth_header] = header_value(access.auth_value)
    connection = new_connection(access, parts.scheme, parts.hostname or "", parts.port, seconds)

    def give_up() -> None:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)

    started = time.monotonic()
    try:
        status, content_type, location, body = within(
            seconds, lambda: _ask(connection, target, headers, max_bytes, url), on=url, give_up=give_up
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise connection_error(error, url) from None
    finally:
        with suppress(OSError):
            connection.close()
    answer = HttpAnswer(url, status, content_type, body, time.monotonic() - started)
    if not 200 <= status < 300 and status not in informative:
        raise _refusal(answer, location)
    return answer


def header_value(secret: Secret) -> str:
    """Return the secret as the value of a header. Errors: SettingsError if it is not printable ASCII."""
    value = secret.reveal()
    if not value.isascii() or not value.isprintable():
        raise SettingsError(
            "the secret cannot be sent as a header: it has characters other than printable ASCII",
            on=secret.reference,
            hint="check that it is the right file, with nothing but the value on one line",
        )
    return value


def new_connection(
    access: AccessSettings, scheme: str, host: str, port: int | None, seconds: float
) -> http.client.HTTPConnection:
    """Return a connection that is not open yet. Errors: SettingsError if a TLS file cannot be used."""
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=seconds + 1)  # the caller enforces the deadline
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
        if access.client_certificate:
            context.load_cert_chain(access.client_certificate, access.client_key)
    except OSError as error:
        raise SettingsError(
            f"a TLS file cannot be used: {error.strerror or 'not a certificate or key'}",
            on=f"{scheme}://{host}",
            hint="ca_file, client_certificate and client_key must be readable PEM files",
        ) from None
    return http.client.HTTPSConnection(host, port, timeout=seconds + 1, context=context)


def _ask(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str], max_bytes: int, url: str
) -> tuple[int, str, str, bytes]:
    connection.request("GET", target, headers=dict(headers))
    with connection.getresponse() as response:
        if response.length is not None and response.length <= max_bytes:
            body = response.read()  # twice as fast as pieces for a large answer; raises if the answer is cut short
        else:
            body = _read_pieces(response, max_bytes, url)
        received = response.headers
        return response.status, received.get("Content-Type", ""), received.get("Location", ""), body


def _read_pieces(response: http.client.HTTPResponse, max_bytes: int, url: str) -> bytes:
    """Read a body of unknown or too large length. Errors: TooMuch."""
    pieces, size = [], 0
    while piece := response.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise TooMuch(f"the answer is larger than {max_bytes} bytes", on=url, hint="request less at a time")
    return b"".join(pieces)


def connection_error(error: Exception, url: str) -> CannotAsk:
    """Return the CannotAsk error for an exception of the connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return WrongServer(
            f"its certificate is not trusted: {inert(error.verify_message)}", on=url, hint="check ca_file and the host"
        )
    if isinstance(error, ssl.SSLError):
        return WrongServer(f"the TLS handshake failed: {error.reason}", on=url, hint="http://, or another port")
    if isinstance(error, socket.gaierror):
        return Unreachable("no such host", on=url, hint="check the name in the settings, and DNS")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable("the connection was refused", on=url, hint="check that it runs and listens on this port")
    if isinstance(error, TimeoutError):
        return TimedOut("no answer in time", on=url, hint="check whether it is overloaded, stopped or cut off")
    if isinstance(error, http.client.RemoteDisconnected):
        return Unreachable("it closed the connection without an answer", on=url, hint="read the server's log")
    if isinstance(error, http.client.IncompleteRead):
        return BadAnswer("the answer was cut short", on=url, hint="again; then read the server's log")
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return BadAnswer(f"the answer is not HTTP ({type(error).__name__})", on=url, hint="check whose port this is")
    reason = error.strerror if isinstance(error, OSError) else None
    return Unreachable(f"the connection failed: {reason or type(error).__name__}", on=url, hint="network and firewall")


def _refusal(answer: HttpAnswer, location: str) -> CannotAsk:
    status = answer.status
    if status in (401, 403):
        return AccessDenied(f"access denied (HTTP {status})", on=answer.url, hint="check auth_header and auth_value")
    if status == 429:
        return AccessDenied("too many requests (HTTP 429)", on=answer.url, hint="lower requests_per_second, or wait")
    if 300 <= status < 400:
        return WrongServer(
            f"redirects to {inert(location, 200)!r} (HTTP {status})",
            on=answer.url,
            hint="the final URL in the settings",
        )
    if status == 404:
        return WrongServer("does not know this path (HTTP 404)", on=answer.url, hint="check server and path")
    return BadAnswer(f"failed with HTTP {status}", on=answer.url, hint="read that server's log")
