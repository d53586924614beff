"""Requests to the sandbox's own servers never use a proxy from the environment."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xai_runbook.sandbox import loopback


@pytest.fixture
def url() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_proxies_are_not_used(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert loopback.answers_ok(url)


def test_the_sandbox_opens_urls_only_through_loopback(checkout: Path) -> None:
    files = [path for path in (checkout / "xai_runbook" / "sandbox").rglob("*.py") if path.name != "loopback.py"]
    offending = [path.name for path in files if re.search(r"import .*\burlopen\b|request\.urlopen", path.read_text())]
    assert len(files) > 20 and offending == []
