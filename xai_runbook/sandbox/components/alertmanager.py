"""Alertmanager as a part of the sandbox: it receives every alert and notifies nobody. Also silences alerts."""

from __future__ import annotations

import json
import shutil
import signal
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import Request

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox import loopback
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.supervisor.component import Layout, Part, accepts_connections
from xai_runbook.system import child, processes

SILENCE_DAYS = 7
_TEMPLATES = Path("/usr/share/prometheus/alertmanager")
# Debian's program reads its templates from _TEMPLATES only. If it is unpacked and not installed, the unpacked folder is
# mounted there in a mount namespace; paths are passed as arguments, so the script needs no quoting.
_OVERLAY_SCRIPT = 'mount -t overlay overlay -o "lowerdir=$1:/usr/share" /usr/share && shift && exec "$@"'
_CONFIGURATION = {"route": {"receiver": "nobody", "group_wait": "0s"}, "receivers": [{"name": "nobody"}]}


def parts(layout: Layout) -> list[Part]:
    """Return Alertmanager as a part, or nothing if its program is missing. Raises SandboxError if it cannot run."""
    program = command()
    if program is None:
        return []
    folder, port = layout.part_folder("alertmanager"), layout.ports["alertmanager"]
    config = folder / "alertmanager.yml"

    def prepare() -> None:
        config.write_text(json.dumps(_CONFIGURATION), encoding="utf-8")

    argv = [
        *program,
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={layout.host}:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    return [
        Part("alertmanager", argv, lambda: accepts_connections(port), signal.SIGTERM, prepare=prepare, optional=True),
    ]


def overlay(layout: Layout) -> dict[str, Any]:
    """Return the settings of the `alertmanager` table; empty if it cannot run here."""
    try:
        is_available = "alertmanager" not in layout.missing and command()
        return {"alertmanager": {"url": layout.url("alertmanager")}} if is_available else {}
    except SandboxError:
        return {}


def silence_all(layout: Layout) -> None:
    """Silence every alert for SILENCE_DAYS."""
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "alertname", "value": ".+", "isRegex": True, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(days=SILENCE_DAYS)).isoformat(),
        "createdBy": "sandbox",
        "comment": "xai-runbook sandbox break alerts-silenced",
    }
    _request(layout, "silences", json.dumps(silence).encode())


def end_silences(layout: Layout) -> None:
    """Expire every silence that is not expired yet."""
    for silence in _request(layout, "silences"):
        if silence["status"]["state"] != "expired":
            _request(layout, f"silence/{silence['id']}", method="DELETE")


def _request(layout: Layout, path: str, body: bytes | None = None, *, method: str | None = None) -> Any:
    headers = {"Content-Type": "application/json"}
    request = Request(f"{layout.url('alertmanager')}/api/v2/{path}", data=body, headers=headers, method=method)
    try:
        with loopback.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read() or b"null")
    except OSError as error:
        raise SandboxError(f"request to the sandbox's Alertmanager failed: {error}", on=request.full_url) from None


@cache
def command() -> tuple[str, ...] | None:
    """Return the command line that starts Alertmanager, or None if there is no program.

    Raises SandboxError if the program cannot run here.
    """
    program = programs.find("alertmanager")
    if program is None:
        return None
    unpacked_share = program.parent.parent / "share"
    if _TEMPLATES.is_dir() or not (unpacked_share / "prometheus" / "alertmanager").is_dir():
        return (str(program),)
    if not shutil.which("unshare"):
        raise SandboxError(
            f"Alertmanager reads its templates from {_TEMPLATES}; mounting them there needs unshare, which is missing",
            hint="apt-get install prometheus-alertmanager",
        )
    overlay_command = ("unshare", "-Urm", "sh", "-c", _OVERLAY_SCRIPT, "sh", str(unpacked_share))
    try:
        trial = processes.run(
            [*overlay_command, "true"],
            env=child.environment(),
            cwd=child.NEUTRAL_FOLDER,
            deadline_seconds=10,
            death_signal=signal.SIGTERM,
        )
    except OSError as error:
        raise SandboxError(f"cannot mount Alertmanager's templates: {type(error).__name__}") from None
    if trial.returncode:
        message = (trial.stderr.strip().splitlines() or ["unshare gave no reason"])[-1]
        raise SandboxError(
            f"cannot mount Alertmanager's templates: {message}", hint="apt-get install prometheus-alertmanager"
        )
    return (*overlay_command, str(program))
