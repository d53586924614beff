"""Client of the running sandbox: its quotas and usage, its provoked loads, and what this machine has free."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.clients.http.get import get
from xai_runbook.errors import BadAnswer
from xai_runbook.model.parts import machine

if TYPE_CHECKING:
    from xai_runbook.settings import models

LOAD = "xai_runbook.sandbox.faults.load"
"""Module whose processes are provoked load."""
_SAMPLE = re.compile(r"^(sandbox_\w+) ([-+.0-9eE]+)$", flags=re.MULTILINE)


class Sandbox:
    """A read-only handle on the running sandbox."""

    def __init__(self, settings: models.SandboxSettings, *, environment: str, production: bool) -> None:
        self.environment, self.production = environment, production
        self.folder = Path(settings.folder)
        self.quota_url = settings.quota_url
        self.mark = settings.mark

    def identity(self) -> dict[str, str]:
        """Return which sandbox this is: its folder and machine."""
        return {"folder": str(self.folder.resolve()), "machine": machine()}

    def quotas(self) -> dict[str, float]:
        """Return the quotas in base units: cpu_quota_cores, memory_quota_bytes, disk_quota_bytes."""
        return {key: value for key, value in self.metrics().items() if "_quota_" in key}

    def metrics(self) -> dict[str, float]:
        """Return usage and quotas as exported, without the prefix sandbox_. Errors: those of http.get, BadAnswer."""
        from xai_runbook.settings.models import Access

        answer = get(Access(timeout="3s"), self.quota_url, "/metrics")
        found = {
            name.removeprefix("sandbox_"): float(value)
            for name, value in _SAMPLE.findall(answer.body.decode("utf-8", "replace"))
        }
        if not found:
            raise BadAnswer("the sandbox exports no quotas", on=self.quota_url, hint="xai-runbook sandbox status")
        return found

    def loads(self) -> list[dict[str, str]]:
        """Return the provoked loads of this sandbox: pid, started (clock ticks since boot), what."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                if LOAD.encode() not in argv or not self._ours((entry / "environ").read_bytes()):
                    continue
                started = (entry / "stat").read_text().rpartition(")")[2].split()[19]
            except (OSError, IndexError):
                continue  # it has ended, or belongs to another user
            what = argv[argv.index(LOAD.encode()) + 1 :][:1]
            found.append({"pid": entry.name, "started": started, "what": b"".join(what).decode("ascii", "replace")})
        return found

    def room(self) -> dict[str, int]:
        """Return what this machine has free: memory_available_bytes, disk_available_bytes (of the sandbox's folder)."""
        words = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()
        disk = os.statvfs(self.folder)
        return {"memory_available_bytes": int(words[0]) * 1024, "disk_available_bytes": disk.f_bavail * disk.f_frsize}

    def _ours(self, environ: bytes) -> bool:
        return all(f"{name}={value}".encode() in environ.split(b"\0") for name, value in self.mark.items())
