"""HTTP GET against bad servers: the right error, in time, without the secret."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.bad_server import Behave, drips, hangs, pours, raw, says, serving
from tests.support.pace import stretched
from xai_runbook.clients.http import get
from xai_runbook.clients.http.deadline import in_parallel
from xai_runbook.errors import (
    AccessDenied,
    BadAnswer,
    CannotAsk,
    SettingsError,
    TimedOut,
    TooMuch,
    Unreachable,
    WrongServer,
)
from xai_runbook.model.secret import Secret
from xai_runbook.settings.models import AccessSettings

SECRET = "hunter2-very-secret"
TIMEOUT = 0.6


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> AccessSettings:
    monkeypatch.setenv("BAD_SERVER_TOKEN", SECRET)
    return AccessSettings(timeout="600ms", auth_value=Secret("env:BAD_SERVER_TOKEN"))


def error_of(access: AccessSettings, url: str, **options: object) -> CannotAsk:
    """Return the error of a GET; it must be raised in time and not contain the secret."""
    started = time.monotonic()
    with pytest.raises(CannotAsk) as caught:
        get.get(access, url, "/x", **options).json()  # type: ignore[arg-type]
    # generous above the timeout: the machine may be busy, but a server that drips for ever is not waited for
    assert time.monotonic() - started < stretched(TIMEOUT + 2)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.on
    assert caught.value.hint
    return caught.value


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CASES: dict[str, tuple[Behave, type[CannotAsk], str]] = {
    "never answers": (hangs, TimedOut, "no "),
    "drips headers": (drips(b"HTTP/1.1 200 OK\r\nX: "), TimedOut, "no "),
    "drips many headers": (drips(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", 0.05), TimedOut, "no "),
    "drips a body": (drips(HEAD + b"Content-Length: 100000\r\n\r\n"), TimedOut, "no "),
    "drips a chunked body": (drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), TimedOut, "no "),
    "HTML": (says(b"<html>Sign in</html>"), BadAnswer, "HTML page"),
    "HTML after spaces": (says(b"\n  <!DOCTYPE html>"), BadAnswer, "HTML page"),
    "malformed JSON": (says(b'{"a": nan}'), BadAnswer, "invalid JSON"),
    "nothing": (says(b""), BadAnswer, "invalid JSON"),
    "gzip that was not requested": (
        says(gzip.compress(b"{}"), "200 OK", "Content-Encoding: gzip"),
        BadAnswer,
        "invalid JSON",
    ),
    "not UTF-8": (says(b'{"a": "\xff\xfe"}'), BadAnswer, "invalid JSON"),
    "cut short": (says(b'{"a": 1}', length=1000), BadAnswer, "cut short"),
    "cut short in a chunk": (raw(HEAD + b'Transfer-Encoding: chunked\r\n\r\n10\r\n{"a"'), BadAnswer, "cut short"),
    "no last chunk": (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), BadAnswer, "cut short"),
    "cut short, no length": (raw(HEAD + b'\r\n{"a": [1, 2'), BadAnswer, "invalid JSON"),
    "chunks of no size": (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), BadAnswer, ""),
    "401": (says(b"", "401 Unauthorized"), AccessDenied, "401"),
    "403": (says(b"", "403 Forbidden"), AccessDenied, "403"),
    "404": (says(b"404 page not found", "404 Not Found"), WrongServer, "404"),
    "429": (says(b"", "429 Too Many Requests", "Retry-After: 60"), AccessDenied, "too many requests"),
    "500": (says(b"{}", "500 Internal Server Error"), BadAnswer, "500"),
    "503": (says(b"{}", "503 Service Unavailable"), BadAnswer, "503"),
    "SSH": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), BadAnswer, "not HTTP"),
    "a binary protocol": (raw(bytes(range(256)) * 4), BadAnswer, "not HTTP"),
    "a huge header": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n"), BadAnswer, "not HTTP"),
    "a thousand headers": (raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n"), BadAnswer, "not HTTP"),
    "hangs up": (lambda peer: None, Unreachable, ""),
    "escape characters": (says(b"\x1b]0;owned\x07<b>"), BadAnswer, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_server(case: str, access: AccessSettings) -> None:
    behave, expected, message = CASES[case]
    with serving(behave) as served:
        error = error_of(access, served.url)
    assert type(error) is expected, error
    assert message in error.what
    assert "\x1b" not in str(error)
    assert [line.split(b" ")[0] for line in served.requests] == [b"GET"]


def test_an_answer_that_is_too_large(access: AccessSettings) -> None:
    with serving(pours(HEAD + b"\r\n")) as served:
        error = error_of(access, served.url, max_bytes=300_000)
    assert type(error) is TooMuch
    assert "300000 bytes" in error.what


def test_refused(access: AccessSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = error_of(access, f"http://127.0.0.1:{port}")
    assert type(error) is Unreachable
    assert "refused" in error.what


def test_no_such_host(access: AccessSettings) -> None:
    error = error_of(access.model_copy(update={"timeout": "5s"}), "http://no-such-host.invalid")
    assert type(error) in (Unreachable, TimedOut)  # a resolver that hangs is late, not wrong


def test_queue_full(access: AccessSettings) -> None:
    """A listener that accepts no connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert type(error_of(access, url)) is TimedOut


def test_a_redirect_is_reported_and_not_followed(access: AccessSettings) -> None:
    with serving(says(b"{}")) as other:
        elsewhere = f"{other.url}/login"
        with serving(says(b"", "302 Found", f"Location: {elsewhere}")) as served:
            error = error_of(access, served.url)
        assert other.requests == []  # so it did not receive our credentials
    assert type(error) is WrongServer
    assert elsewhere in error.what


def test_proxies_of_the_shell_are_not_used(access: AccessSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(says(b"{}")) as proxy, serving(says(b'{"a": 1}')) as served:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert get.get(access, served.url, "/x").json() == {"a": 1}
        assert proxy.requests == []


def test_the_request(access: AccessSettings) -> None:
    with serving(says(b"{}")) as served:
        get.get(access, f"{served.url}/base", "/api", {"query": 'up{a="b c"}'})
    (sent,) = served.requests
    assert sent.startswith(b"GET /base/api?query=up%7Ba%3D%22b+c%22%7D HTTP/1.1\r\n")
    assert f"\r\nAuthorization: {SECRET}\r\n".encode() in sent


def test_informative_status(access: AccessSettings) -> None:
    with serving(says(b'{"block_height": 7}', "503 Service Unavailable")) as served:
        answer = get.get(access, served.url, "/x", informative=[503])
    assert (answer.status, answer.json()) == (503, {"block_height": 7})


@pytest.mark.parametrize("value", ["two\nlines", "not äscii", "\x00"])
def test_a_secret_that_cannot_be_a_header(value: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(value, encoding="utf-8")
    with pytest.raises(SettingsError) as caught, serving(says(b"{}")) as served:
        get.get(AccessSettings(auth_value=Secret(f"file:{path}")), served.url, "/x")
    assert value not in str(caught.value)
    assert str(path) in str(caught.value)


def test_fifty_parallel_requests_end_in_time(access: AccessSettings) -> None:
    """Servers that hang do not queue up behind each other, and leave no thread behind for long."""
    before = threading.active_count()
    with serving(hangs) as served:
        errors = in_parallel([lambda: error_of(access, served.url)] * 50)
    assert {type(error) for error in errors} == {TimedOut}
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a server's and a client's certificate by it, made by openssl."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
        except FileNotFoundError:
            pytest.skip("there is no openssl program to make certificates with")

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    openssl(
        *new,
        "-subj",
        "/CN=test CA",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    )
    for name in ("server", "client"):
        openssl(
            *new,
            "-subj",
            f"/CN={name}",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    return folder


def tls_server(folder: Path, *, ask_for_client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    if ask_for_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    return context


def test_untrusted_certificate(access: AccessSettings, certificates: Path) -> None:
    with serving(says(b"{}"), tls_server(certificates)) as served:
        error = error_of(access, f"https://127.0.0.1:{served.port}")
        assert served.requests == []  # the header never left
    assert type(error) is WrongServer
    assert "certificate" in error.what


def test_certificate_of_another_host(access: AccessSettings, certificates: Path) -> None:
    trusting = access.model_copy(update={"ca_file": str(certificates / "ca.pem")})
    with serving(says(b"{}"), tls_server(certificates)) as served:
        error = error_of(trusting, f"https://localhost:{served.port}")
        assert served.requests == []
    assert type(error) is WrongServer


def test_ca_file_and_client_certificate(access: AccessSettings, certificates: Path) -> None:
    trusting = access.model_copy(update={"ca_file": str(certificates / "ca.pem"), "timeout": "5s"})
    known = trusting.model_copy(
        update={
            "client_certificate": str(certificates / "client.pem"),
            "client_key": str(certificates / "client.key"),
        }
    )
    with serving(says(b'{"a": 1}'), tls_server(certificates, ask_for_client=True)) as served:
        url = f"https://127.0.0.1:{served.port}"
        assert get.get(known, url, "/x").json() == {"a": 1}
        error = error_of(trusting, url)
    assert isinstance(error, CannotAsk)
    assert len(served.requests) == 1


def test_plain_http_where_tls_is_expected(access: AccessSettings) -> None:
    with serving(says(b"{}")) as served:
        error = error_of(access, f"https://127.0.0.1:{served.port}")
    assert type(error) in (WrongServer, TimedOut)


@pytest.mark.parametrize("key", ["ca_file", "client_certificate"])
@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_tls_file_that_cannot_be_used(access: AccessSettings, key: str, content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match="TLS file"):
        get.get(access.model_copy(update={key: str(path)}), "https://127.0.0.1:1", "/x")
