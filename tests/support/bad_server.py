"""Servers on loopback that misbehave in a way that a test chooses."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Behave = Callable[[socket.socket], None]


@dataclass
class Served:
    """A running bad server: its port, and the first bytes of every request that it received."""

    port: int
    requests: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(
    behave: Behave, tls: ssl.SSLContext | None = None, read: Callable[[socket.socket], bytes] | None = None
) -> Iterator[Served]:
    """Serve `behave`, which gets each accepted socket after its request has been read.

    `read` replaces the function that reads a request, for protocols other than HTTP.
    """
    stopped = threading.Event()
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = Served(listener.getsockname()[1])

        def handle(peer: socket.socket) -> None:
            with suppress(OSError):
                if tls is not None:
                    peer = tls.wrap_socket(peer, server_side=True)
                    accepted.append(peer)
                served.requests.append((read or request)(peer))
                behave(peer)
            with suppress(OSError):
                peer.close()

        def run() -> None:
            while not stopped.is_set():
                with suppress(OSError):
                    peer, _ = listener.accept()
                    accepted.append(peer)
                    threading.Thread(target=handle, args=(peer,), daemon=True).start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            stopped.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for peer in accepted:
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
                peer.close()
            thread.join(5)


def request(peer: socket.socket) -> bytes:
    """Return the request's bytes up to its empty line."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = peer.recv(65536)
        if not piece:
            break
        received += piece
    return received


def says(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> Behave:
    """Answer with that status and body; `length` overrides the Content-Length."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    return raw("\r\n".join([*head, *headers]).encode() + b"\r\n\r\n" + body)


def raw(content: bytes) -> Behave:
    """Send exactly these bytes."""
    return lambda peer: peer.sendall(content)


def hangs(peer: socket.socket) -> None:
    """Never answer; end when the client does."""
    while peer.recv(65536):
        pass


def drips(first: bytes, piece: bytes = b"x", seconds: float = 0.02) -> Behave:
    """Send `first`, then one piece at a time forever, so that no single read times out."""

    def behave(peer: socket.socket) -> None:
        peer.sendall(first)
        pause = threading.Event()
        while not pause.wait(seconds):
            peer.sendall(piece)

    return behave


def pours(first: bytes, piece: bytes = b"x" * 65536) -> Behave:
    """Send `first`, then as much as the client reads."""
    return drips(first, piece, 0.0)
