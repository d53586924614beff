"""Client of the running sandbox: its quotas and usage, its provoked loads, and what this machine has free."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.clients.http.get import get
from xai_runbook.errors import BadAnswer
from xai_runbook.model.parts import machine
from xai_runbook.system import processes

if TYPE_CHECKING:
    from xai_runbook.settings import models

LOAD = "xai_runbook.sandbox.faults.load"
"""Module whose processes are provoked load."""


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
        from xai_runbook.clients.prometheus.answers import metrics_page
        from xai_runbook.settings.models import AccessSettings

        answer = get(AccessSettings(timeout="3s"), self.quota_url, "/metrics")
        try:
            samples = metrics_page(answer.body)
        except ValueError:
            samples = []
        found = {
            sample["name"].removeprefix("sandbox_"): sample["value"]
            for sample in samples
            if sample["name"].startswith("sandbox_") and not sample["labels"]
        }
        if not found:
            raise BadAnswer("the sandbox exports no quotas", on=self.quota_url, hint="xai-runbook sandbox status")
        return found

    def loads(self) -> list[dict[str, str]]:
        """Return the provoked loads of this sandbox: pid, started (seconds since boot), what."""
        import psutil

        rows = []
        for pid in self._pids():
            with suppress(psutil.Error, OSError):  # it has ended
                argv = psutil.Process(pid).cmdline()
                started = processes.created_at(pid)
                if LOAD in argv and started is not None:
                    what = "".join(argv[argv.index(LOAD) + 1 :][:1])
                    rows.append({"pid": str(pid), "started": f"{started:.2f}", "what": what})
        return rows

    def room(self) -> dict[str, int]:
        """Return what this machine has free: memory_available_bytes, disk_available_bytes (of the sandbox's folder)."""
        import psutil

        return {
            "memory_available_bytes": psutil.virtual_memory().available,
            "disk_available_bytes": psutil.disk_usage(str(self.folder)).free,
        }

    def _pids(self) -> list[int]:
        """Return the pids of this sandbox's processes."""
        found = [set(processes.pids_with_variable(name, value)) for name, value in self.mark.items()]
        return sorted(set.intersection(*found)) if found else []
