"""The sandbox's simulated Grafana as a process: its initial dashboards, who may save, its data source's health."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support.bad_server import says, serving
from tests.support.pace import stretched
from xai_runbook.dashboards import FILES
from xai_runbook.sandbox.components import grafana
from xai_runbook.sandbox.components.grafana_responses import DATASOURCE_UID
from xai_runbook.sandbox.supervisor.component import Layout, environment, free_ports


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """Yield the layout of a running Grafana. There is no Prometheus behind it unless a test starts one."""
    folder = tmp_path_factory.mktemp("recorded")
    layout = Layout(folder, folder, free_ports(["grafana", "prometheus"]))
    (part,) = grafana.parts(layout)
    assert part.prepare is not None
    part.prepare()
    with subprocess.Popen(part.argv, env=environment(folder), cwd=folder) as process:
        try:
            end = time.monotonic() + stretched(20)
            while not is_ready(part):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.02)
            yield layout
        finally:
            process.send_signal(signal.SIGTERM)


def is_ready(part: Any) -> bool:
    try:
        return bool(part.ready())
    except OSError:
        return False


def request(layout: Layout, path: str, account: str = "viewer", body: Any = None) -> tuple[int, Any]:
    """Return status and body of the response to that service account."""
    token = (layout.folder / "secrets" / f"grafana-{account}.token").read_text().strip()
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(layout.url("grafana") + path, data, {"Authorization": token}), timeout=10) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_it_starts_with_the_runbooks_dashboards(layout: Layout) -> None:
    _, dashboards = request(layout, "/api/search?type=dash-db")
    assert [hit["title"] for hit in dashboards] == list(FILES)


def test_requests_need_a_token_and_token_files_are_private(layout: Layout) -> None:
    with pytest.raises(HTTPError, match="401") as caught:
        urlopen(layout.url("grafana") + "/api/search", timeout=10)
    caught.value.close()
    for file in (layout.folder / "secrets").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert "glsa_" not in " ".join(grafana.parts(layout)[0].argv)


def test_saving_an_outdated_version_is_refused(layout: Layout) -> None:
    _, dashboards = request(layout, "/api/search?type=dash-db")
    uid = dashboards[0]["uid"]
    _, stored = request(layout, f"/api/dashboards/uid/{uid}")
    body = {"dashboard": stored["dashboard"], "folderUid": "", "overwrite": False}
    assert request(layout, "/api/dashboards/db", "viewer", body)[0] == 403
    assert request(layout, "/api/dashboards/db", "operator", body)[1]["version"] == 2
    assert request(layout, "/api/dashboards/db", "operator", body)[0] == 412
    assert request(layout, f"/api/dashboards/uid/{uid}")[1]["dashboard"]["version"] == 2


def test_data_source_health_follows_prometheus(layout: Layout) -> None:
    path = f"/api/datasources/uid/{DATASOURCE_UID}/health"
    status, health = request(layout, path)
    assert (status, health["status"]) == (400, "ERROR") and "refused" in health["message"]
    with serving(says(b'{"status": "success"}')) as prometheus:
        simulated = grafana.SandboxGrafana("Bearer a", "Bearer b", prometheus.url)
        assert simulated.datasource_health(DATASOURCE_UID)[1]["status"] == "OK"


def test_removing_and_restoring_a_dashboard_is_idempotent(layout: Layout) -> None:
    def titles() -> list[str]:
        return [hit["title"] for hit in request(layout, "/api/search?type=dash-db")[1]]

    for _ in range(2):  # repeating it is no error
        grafana.remove_dashboard(layout)
        assert grafana.REMOVABLE_DASHBOARD not in titles() and len(titles()) == len(FILES) - 1
    for _ in range(2):
        grafana.restore_dashboard(layout)
        assert sorted(titles()) == sorted(FILES)
