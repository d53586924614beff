"""A real JupyterLab in a real browser: Run All, and a change confirmed by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.pace import stretched
from xai_runbook.environment import Environment
from xai_runbook.model.findings import MIME_TYPE
from xai_runbook.sandbox.supervisor.component import free_ports

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: apt-get install chromium"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def lab(
    sandbox: dict[str, Any], checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Address and folder of a JupyterLab on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    for notebook in (checkout / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, folder)
    port = free_ports(["lab"])["lab"]
    log = (folder / "lab.log").open("w")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
            "--IdentityProvider.token=", "--ServerApp.password=", "--allow-root", f"--ServerApp.root_dir={folder}",
            "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
        cwd=folder, stdout=log, stderr=log, start_new_session=True,
        env={
            **os.environ, "JUPYTER_CONFIG_DIR": str(folder / "c"), "JUPYTER_DATA_DIR": str(folder / "d"),
            "XAI_RUNBOOK_OUTPUTS__JOURNAL": str(folder / "journal"),  # else this user's own
        },
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=2).read()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "lab.log").read_text()[-2000:]
                time.sleep(0.1)
        yield address, folder
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                  "--disable-sync", "--no-first-run"],
        )  # fmt: skip
        yield browser
        browser.close()


def run_all(page: Any, address: str, folder: Path, name: str, last: str) -> dict[str, list[dict[str, Any]]]:
    """Open a notebook, run all its cells and save it; return the outputs by cell id once cell `last` has run."""
    page.goto(f"{address}/lab/workspaces/test-{name.split('.')[0]}/tree/{name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_selector("text=/\\| Idle$/", timeout=60_000)
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells")
    deadline = time.monotonic() + stretched(150)
    while time.monotonic() < deadline:
        for accept in page.locator(".jp-Dialog button.jp-mod-accept").all():
            accept.click()  # "Select Kernel", if the kernel was slow to start
        page.keyboard.press("Control+s")
        time.sleep(1)
        with suppress(json.JSONDecodeError):  # it is just being saved
            cells = {cell["id"]: cell for cell in json.loads((folder / name).read_text())["cells"]}
            if cells[last].get("execution_count"):
                return {cell: found.get("outputs", []) for cell, found in cells.items()}
    page.screenshot(path=str(folder / "failed.png"))
    raise AssertionError(f"{name} did not run to {last}")


@pytest.mark.parametrize(
    ("name", "last"), [("00_start_here", "cache_reachable"), ("health_report", "api_latency")]
)  # fmt: skip
def test_run_all_in_jupyterlab_answers_every_question(
    name: str, last: str, lab: tuple[str, Path], browser: Any
) -> None:
    address, folder = lab
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    shown = run_all(page, address, folder, f"{name}.ipynb", last)
    question_ids = {
        cell["id"]
        for cell in json.loads((folder / f"{name}.ipynb").read_text())["cells"]
        if "raises-exception" in cell["metadata"].get("tags", [])
    }
    for question in question_ids:
        found = [output["data"][MIME_TYPE] for output in shown[question] if MIME_TYPE in output.get("data", {})]
        absent = any(output.get("ename") == "NotConfigured" for output in shown[question])
        assert [finding["name"] for finding in found] == [question] * (not absent)
    assert page.locator(".jp-OutputArea-output strong", has_text=last).count() >= 1, "seen, not only stored"
    page.close()


def test_a_session_is_ended_by_a_confirmation_in_jupyterlab(
    lab: tuple[str, Path], browser: Any, env: Environment
) -> None:
    address, folder = lab
    where = env.settings.database
    assert where is not None and where.password is not None
    victim = psycopg.connect(
        host=where.host, port=where.port, dbname=where.dbname, user=where.user, password=where.password.reveal(),
        application_name="victim of the lab test",
    )  # fmt: skip
    name = "terminate.ipynb"
    notebook = json.loads((folder / "03_database.ipynb").read_text())
    wanted = {"parameters", "bind", "plan_terminate", "apply_terminate"}
    cells = {cell["id"]: cell for cell in notebook["cells"] if cell["id"] in wanted}
    pid = victim.info.backend_pid
    cells["parameters"]["source"] = f'environment = ""\npids = [{pid}]'
    # a person types the confirmation; here the cell reads it from the plan
    cells["apply_terminate"]["source"] = (
        'apply(terminate_plan, env, confirm=terminate_plan.confirmation, reason="lab test")'
    )
    notebook["cells"] = [cells[key] for key in ("parameters", "bind", "plan_terminate", "apply_terminate")]
    (folder / name).write_text(json.dumps(notebook))
    page = browser.new_page()
    shown = run_all(page, address, folder, name, "apply_terminate")
    page.close()
    (outcome,) = [
        output["data"]["application/vnd.xai-runbook.outcome+json"]
        for output in shown["apply_terminate"]
        if "application/vnd.xai-runbook.outcome+json" in output.get("data", {})
    ]
    assert outcome["status"] == "done"
    with pytest.raises(psycopg.OperationalError):
        victim.execute("SELECT 1")
    victim.close()
