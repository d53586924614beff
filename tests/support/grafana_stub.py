"""RECORDED SHAPES, NOT A GRAFANA: the sandbox's recorded Grafana for tests, which can also misbehave."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from xai_runbook.sandbox.components.grafana_responses import DATASOURCE_UID, HEALTHY, RecordedGrafana

VIEWER, EDITOR = "Bearer glsa_viewer", "Bearer glsa_editor"


class Stub(RecordedGrafana):
    """State of the stub. `then` is what the next write request meets, once: see `Requests._write`."""

    def __init__(self) -> None:
        super().__init__(VIEWER, EDITOR)
        self.url = ""
        self.health: dict[str, tuple[int, dict[str, Any]]] = {DATASOURCE_UID: HEALTHY}
        self.answers: dict[str, tuple[int, bytes]] = {}
        """What a path answers instead."""
        self.then = ""
        self.asked: list[tuple[str, str]] = []
        self.written: list[dict[str, Any]] = []

    def datasource_health(self, uid: str) -> tuple[int, dict[str, Any]]:
        """Return what `health` holds for the data source."""
        return self.health.get(uid) or super().datasource_health("unknown")


class Requests(http.server.BaseHTTPRequestHandler):
    """Answers as the documentation says, or misbehaves."""

    server: Any

    @property
    def stub(self) -> Stub:
        return self.server.stub  # type: ignore[no-any-return]

    @property
    def authorization(self) -> str:
        return str(self.headers.get("Authorization", ""))

    def do_GET(self) -> None:
        self.stub.asked.append(("GET", self.path))
        path = urlsplit(self.path).path
        if path in self.stub.answers:
            self._raw(*self.stub.answers[path])
        else:
            self._respond(*self.stub.read(self.path, self.authorization))

    def do_POST(self) -> None:
        self._write(self.rfile.read(int(self.headers["Content-Length"])))

    def do_DELETE(self) -> None:
        self._write(b"")

    def _write(self, body: bytes) -> None:
        self.stub.asked.append((self.command, self.path))
        then, self.stub.then = self.stub.then, ""
        refusal = self.stub.refusal(self.authorization)
        if refusal:
            self._respond(*refusal)
        elif then == "fails before":
            self._respond(500, {"message": "Failed to save dashboard"})
        elif then == "redirects":
            self.send_response(302)
            self.send_header("Location", "https://login.example.com/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif then == "hangs":
            self.server.over.wait(30)
        elif then == "is cut off":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif then == "is too fast":
            self._respond(429, {"message": "Too many requests"})
        else:
            if body:
                self.stub.written.append(json.loads(body))
            status, body = self.stub.write(self.command, self.path, self.authorization, body)
            if then == "fails after":
                self._respond(502, {"message": "Bad Gateway"})
            elif then == "is cut off after":
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._respond(status, body)

    def _respond(self, status: int, body: Any) -> None:
        self._raw(status, json.dumps(body).encode())

    def _raw(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """A server that ends its requests when it ends, and ignores clients that hang up."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Stub]:
    """Yield a stub on loopback."""
    server = Server(("127.0.0.1", 0), Requests)
    server.stub, server.over = Stub(), threading.Event()  # type: ignore[attr-defined]
    server.stub.url = f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.stub  # type: ignore[attr-defined]
    finally:
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join(5)
