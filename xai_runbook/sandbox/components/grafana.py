"""A simulated Grafana as a part of the sandbox: recorded responses (`grafana_responses`) with the runbook's dashboards.

It is not a Grafana, and the settings list it under `simulated`. Its data source is the sandbox's real Prometheus.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox import loopback
from xai_runbook.sandbox.components.grafana_responses import DATASOURCE_UID, HEALTHY, RecordedGrafana
from xai_runbook.sandbox.supervisor.component import Layout, Part
from xai_runbook.system import child
from xai_runbook.system.files import write_atomically

REMOVABLE_DASHBOARD = "Network Status"
"""The dashboard that the fault `dashboard-missing` deletes."""


class SandboxGrafana(RecordedGrafana):
    """Recorded Grafana whose data source health check queries the sandbox's Prometheus."""

    def datasource_health(self, uid: str) -> tuple[int, dict[str, Any]]:
        """Return status and body of the health check: as in Grafana, an error if a test query fails."""
        if uid != DATASOURCE_UID:
            return super().datasource_health(uid)
        url = self.datasources[0]["url"]
        try:
            with loopback.urlopen(f"{url}/api/v1/query?query=1%2B1", timeout=2):
                return HEALTHY
        except OSError as error:
            return 400, {"message": f'Post "{url}/api/v1/query": {error}', "status": "ERROR"}


async def run(recorded: RecordedGrafana, port: int) -> None:
    """Serve the API on loopback until SIGTERM. Raises OSError if the port is taken."""
    from tornado.httpserver import HTTPServer
    from tornado.web import Application, RequestHandler

    class Requests(RequestHandler):
        def get(self) -> None:
            self._respond(*recorded.read(self.request.uri or "/", self._authorization))

        def post(self) -> None:
            self._handle_write()

        def delete(self) -> None:
            self._handle_write()

        @property
        def _authorization(self) -> str:
            return self.request.headers.get("Authorization", "")

        def _handle_write(self) -> None:
            method, target = self.request.method or "", self.request.uri or "/"
            self._respond(*recorded.write(method, target, self._authorization, self.request.body))

        def _respond(self, status: int, body: Any) -> None:
            self.set_status(status)
            self.set_header("Content-Type", "application/json; charset=UTF-8")
            self.finish(json.dumps(body))

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = HTTPServer(Application([(".*", Requests)], log_function=lambda _: None), idle_connection_timeout=60)
    server.listen(port, "127.0.0.1")
    await ended.wait()


def parts(layout: Layout) -> list[Part]:
    """Return the simulated Grafana as a part. It starts with the runbook's dashboards and saves changes in memory."""
    folder, url = layout.part_folder("grafana"), layout.url("grafana")

    def prepare() -> None:
        for account in ("viewer", "operator"):
            if not _token(layout, account).exists():
                layout.part_folder("secrets")
                write_atomically(_token(layout, account), f"Bearer glsa_{secrets.token_urlsafe(24)}\n".encode())
        if not (folder / "dashboards.json").exists():
            write_atomically(folder / "dashboards.json", json.dumps(_dashboards()).encode())

    argv = child.module_argv("xai_runbook.sandbox.components.grafana", "--port", str(layout.ports["grafana"]))
    argv += ["--dashboards", str(folder / "dashboards.json"), "--prometheus", layout.url("prometheus")]
    argv += ["--viewer", str(_token(layout, "viewer")), "--editor", str(_token(layout, "operator"))]
    return [Part("grafana", argv, lambda: loopback.answers_ok(f"{url}/api/health"), signal.SIGKILL, prepare=prepare)]


def overlay(layout: Layout) -> dict[str, Any]:
    """Return the settings of the `grafana` table."""
    return {
        "url": layout.url("grafana"),
        "auth_value": f"file:{_token(layout, 'viewer')}",
        "operator": {"auth_value": f"file:{_token(layout, 'operator')}"},
    }


def remove_dashboard(layout: Layout) -> None:
    """Delete the removable dashboard, if it exists."""
    _request(layout, "DELETE", f"/api/dashboards/uid/{_removable_dashboard()['uid']}")


def restore_dashboard(layout: Layout) -> None:
    """Save the removable dashboard again, if it is missing."""
    wanted = {"dashboard": _removable_dashboard(), "folderUid": "", "overwrite": False}
    _request(layout, "POST", "/api/dashboards/db", json.dumps(wanted).encode())


def _request(layout: Layout, method: str, path: str, body: bytes | None = None) -> None:
    token = _token(layout, "operator").read_text(encoding="ascii").strip()
    headers = {"Authorization": token, "Content-Type": "application/json"}
    try:
        with loopback.urlopen(Request(layout.url("grafana") + path, body, headers, method=method), timeout=5):
            pass
    except HTTPError as error:
        error.close()
        if error.code not in (404, 412):  # already deleted, or already restored
            raise SandboxError(f"the sandbox's Grafana answered {error.code}", on=layout.url("grafana")) from None
    except OSError as error:
        raise SandboxError(f"request to the sandbox's Grafana failed: {error}", on=layout.url("grafana")) from None


def _token(layout: Layout, account: str) -> Path:
    return layout.folder / "secrets" / f"grafana-{account}.token"


def _dashboards() -> list[dict[str, Any]]:
    from xai_runbook.dashboards import FILES, dashboard
    from xai_runbook.settings.loading import load

    settings = load("sandbox")
    return [dashboard(title, settings, settings.limits) for title in FILES]


def _removable_dashboard() -> dict[str, Any]:
    return next(dashboard for dashboard in _dashboards() if dashboard["title"] == REMOVABLE_DASHBOARD)


def main() -> None:
    """Run as the part's process until it is stopped."""
    parser = argparse.ArgumentParser(description="Recorded shapes of Grafana's HTTP API; not a Grafana.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dashboards", type=Path, required=True, help="JSON file with the initial dashboards")
    parser.add_argument("--prometheus", required=True, help="URL of the data source")
    parser.add_argument("--viewer", type=Path, required=True, help="file with the viewer's Authorization header")
    parser.add_argument("--editor", type=Path, required=True, help="file with the editor's Authorization header")
    options = parser.parse_args()
    viewer, editor = (file.read_text(encoding="ascii").strip() for file in (options.viewer, options.editor))
    recorded = SandboxGrafana(viewer, editor, options.prometheus)
    for dashboard in json.loads(options.dashboards.read_bytes()):
        recorded.put(dashboard)
    asyncio.run(run(recorded, options.port))


if __name__ == "__main__":
    main()
