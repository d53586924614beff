"""The sandbox's recorded Grafana as a process: what it holds at first, who may save, what its data source says."""

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
from xai_runbook.sandbox.components.grafana_responses import SOURCE
from xai_runbook.sandbox.supervisor.component import Layout, environment, free_ports


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """It runs; there is no Prometheus behind it unless a test starts one."""
    folder = tmp_path_factory.mktemp("recorded")
    layout = Layout(folder, folder, free_ports(["grafana", "prometheus"]))
    (part,) = grafana.parts(layout)
    assert part.prepare is not None
    part.prepare()
    with subprocess.Popen(part.argv, env=environment(folder), cwd=folder) as process:
        try:
            end = time.monotonic() + stretched(20)
            while not answers(part):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.02)
            yield layout
        finally:
            process.send_signal(signal.SIGTERM)


def answers(part: Any) -> bool:
    try:
        return bool(part.ready())
    except OSError:
        return False


def ask(layout: Layout, path: str, who: str = "viewer", body: Any = None) -> tuple[int, Any]:
    """Status and body of the answer to that service account."""
    token = (layout.folder / "secrets" / f"grafana-{who}.token").read_text().strip()
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(layout.url("grafana") + path, data, {"Authorization": token}), timeout=10) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_it_has_the_runbooks_dashboards(layout: Layout) -> None:
    _, found = ask(layout, "/api/search?type=dash-db")
    assert [hit["title"] for hit in found] == list(FILES)


def test_nobody_gets_in_without_a_token_and_tokens_are_their_owners_alone(layout: Layout) -> None:
    with pytest.raises(HTTPError, match="401") as caught:
        urlopen(layout.url("grafana") + "/api/search", timeout=10)
    caught.value.close()
    for file in (layout.folder / "secrets").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert "glsa_" not in " ".join(grafana.parts(layout)[0].argv)


def test_a_version_that_was_not_seen_is_not_saved_over(layout: Layout) -> None:
    _, found = ask(layout, "/api/search?type=dash-db")
    uid = found[0]["uid"]
    _, whole = ask(layout, f"/api/dashboards/uid/{uid}")
    wanted = {"dashboard": whole["dashboard"], "folderUid": "", "overwrite": False}
    assert ask(layout, "/api/dashboards/db", "viewer", wanted)[0] == 403
    assert ask(layout, "/api/dashboards/db", "operator", wanted)[1]["version"] == 2
    assert ask(layout, "/api/dashboards/db", "operator", wanted)[0] == 412
    assert ask(layout, f"/api/dashboards/uid/{uid}")[1]["dashboard"]["version"] == 2


def test_its_data_source_works_while_prometheus_answers(layout: Layout) -> None:
    path = f"/api/datasources/uid/{SOURCE}/health"
    status, told = ask(layout, path)
    assert (status, told["status"]) == (400, "ERROR") and "refused" in told["message"]
    with serving(says(b'{"status": "success"}')) as there:
        recorded = grafana.OfSandbox("Bearer a", "Bearer b", there.url)
        assert recorded.source_health(SOURCE)[1]["status"] == "OK"


def test_a_dashboard_is_removed_once_and_given_back_once(layout: Layout) -> None:
    def titles() -> list[str]:
        return [hit["title"] for hit in ask(layout, "/api/search?type=dash-db")[1]]

    for _ in range(2):  # what somebody has done already is no error
        grafana.remove_dashboard(layout)
        assert grafana.MISSING not in titles() and len(titles()) == len(FILES) - 1
    for _ in range(2):
        grafana.give_dashboard_back(layout)
        assert sorted(titles()) == sorted(FILES)
