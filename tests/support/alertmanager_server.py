"""A real Alertmanager for a test, and silences as a user would create them."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import prometheus_server
from xai_runbook.clients.alertmanager import Alertmanager
from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import alertmanager, programs
from xai_runbook.sandbox.supervisor.component import free_ports
from xai_runbook.settings.models import AlertmanagerSettings
from xai_runbook.system import processes


def handle(url: str, timeout: str = "5s") -> Alertmanager:
    """Return a handle of the server at `url`."""
    return Alertmanager(AlertmanagerSettings(url=url, timeout=timeout))


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Yield the address of an Alertmanager that notifies nobody. Skips the test if none can be fetched."""
    missing = programs.fetch(["alertmanager"])
    if missing:
        pytest.skip(missing["alertmanager"])
    try:
        command = alertmanager.command()
    except SandboxError as error:
        pytest.skip(str(error))
    assert command is not None
    port = free_ports(["alertmanager"])["alertmanager"]
    (folder / "alertmanager.yml").write_text(json.dumps({"route": {"receiver": "x"}, "receivers": [{"name": "x"}]}))
    argv = [
        *command,
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/alertmanager",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://127.0.0.1:{port}"
    with (folder / "alertmanager.log").open("wb") as log:
        process = processes.start(
            argv, env=os.environ, cwd=None, stdout=log, stderr=log, own_group=False, death_signal=signal.SIGTERM
        )
    try:
        prometheus_server.until(lambda: process.poll() is not None or _answers(url), "Alertmanager answers")
        assert process.poll() is None, (folder / "alertmanager.log").read_text()[-2000:]
        yield url
    finally:
        process.terminate()
        process.wait(20)


def silence(url: str, seconds: float, why: str = "new disk at ten", **matchers: str) -> str:
    """Silence alerts by `name="value"` matchers, regular expressions if they begin with ~; return the id."""
    now = datetime.now(UTC)
    body = {
        "matchers": [
            {"name": name, "value": value.removeprefix("~"), "isRegex": value.startswith("~"), "isEqual": True}
            for name, value in matchers.items()
        ],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(seconds=seconds)).isoformat(),
        "createdBy": "ops",
        "comment": why,
    }
    return str(_request(f"{url}/api/v2/silences", json.dumps(body).encode())["silenceID"])


def expire(url: str, silence_id: str) -> None:
    """Expire a silence now."""
    _request(f"{url}/api/v2/silence/{silence_id}", method="DELETE")


def _request(url: str, body: bytes | None = None, method: str | None = None) -> Any:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read() or b"null")


def _answers(url: str) -> bool:
    try:
        return bool(_request(f"{url}/api/v2/status"))
    except OSError:
        return False
