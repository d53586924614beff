"""Run All: every notebook runs to its end under plain tools and changes nothing on any server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.pace import stretched
from xai_runbook.environment import Environment
from xai_runbook.model.findings import MIME_TYPE

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def run(*argv: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, argv)], cwd=cwd, capture_output=True, text=True, timeout=stretched(240), check=False
    )


def question_ids(notebook: Path) -> set[str]:
    cells = json.loads(notebook.read_text())["cells"]
    return {cell["id"] for cell in cells if "raises-exception" in cell["metadata"].get("tags", [])}


def findings(executed: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for cell in json.loads(executed.read_text())["cells"]:
        for output in cell.get("outputs", []):
            if MIME_TYPE in output.get("data", {}):
                found[cell["id"]] = output["data"][MIME_TYPE]
    return found


def not_configured(executed: Path) -> dict[str, str]:
    """Return the NotConfigured message of each question without a finding."""
    return {
        cell["id"]: output["evalue"]
        for cell in json.loads(executed.read_text())["cells"]
        for output in cell.get("outputs", [])
        if output.get("ename") == "NotConfigured"
    }


@pytest.fixture(scope="module")
def monitor(env: Environment) -> Any:
    """A session of the test as the read-only role, which may read all statistics."""
    where = env.settings.database
    assert where is not None and where.password is not None
    with psycopg.connect(
        host=where.host,
        port=where.port,
        dbname=where.dbname,
        user=where.user,
        password=where.password.reveal(),
        autocommit=True,
        application_name="test",
    ) as connection:
        yield connection


def server_state(env: Environment, monitor: psycopg.Connection[Any], sandbox: dict[str, Any]) -> dict[str, object]:
    """Return what must not change: definitions, roles, settings and sessions of PostgreSQL, keys of the cache, the
    configuration of Prometheus, and the sandbox's processes.
    """

    def rows(query: str) -> str:
        return hashlib.sha256(repr(monitor.execute(query.encode()).fetchall()).encode()).hexdigest()

    prometheus = sandbox["overlay"]["prometheus"]["url"]
    config = urllib.request.urlopen(f"{prometheus}/api/v1/status/config", timeout=10).read()
    return {
        "relations": rows("SELECT oid, relname, relkind, relowner, relacl, relfilenode FROM pg_class ORDER BY oid"),
        "roles": rows("SELECT * FROM pg_roles ORDER BY oid"),
        "settings": rows("SELECT name, reset_val FROM pg_settings WHERE source <> 'session' ORDER BY name"),
        "functions": rows("SELECT oid, proname, prosrc FROM pg_proc ORDER BY oid"),
        "sessions": rows(
            "SELECT pid, backend_start FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND application_name NOT IN ('xai-runbook', 'test') AND usename <> 'xai_monitor' ORDER BY pid"
        ),
        "cache": {
            key: env.cache.info().get(key) for key in ("db0", "role", "config_file", "rdb_changes_since_last_save")
        },
        "prometheus": hashlib.sha256(config).hexdigest(),
        "processes": {name: part["pid"] for name, part in sandbox["parts"].items()},
    }


def writes_of_the_monitor(monitor: psycopg.Connection[Any]) -> list[str]:
    """Return the statements of the read-only role that do not only read."""
    rows = monitor.execute(
        "SELECT query FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE r.rolname = 'xai_monitor'"
    ).fetchall()
    assert rows, "the role's statements must be seen, else this proves nothing"
    lines = [" ".join(line for line in query.splitlines() if not line.startswith("--")) for (query,) in rows]
    return [
        line for line in lines if line.split()[0].upper() not in ("SELECT", "WITH", "SET", "SHOW", "BEGIN", "COMMIT")
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_run_all_by_plain_papermill_changes_nothing(
    notebook: Path, env: Environment, monitor: Any, sandbox: dict[str, Any], tmp_path: Path
) -> None:
    before = server_state(env, monitor, sandbox)
    out = tmp_path / notebook.name
    done = run("-m", "papermill", "--no-progress-bar", notebook, out, "-p", "environment", "sandbox", cwd=tmp_path)
    absent = not_configured(out)
    assert done.returncode == bool(absent), done.stderr[-2000:]
    parts = [re.match(r"(\w+) is not configured in environment", message) for message in absent.values()]
    assert all(getattr(env.settings, part[1]) is None for part in parts if part)
    assert server_state(env, monitor, sandbox) == before
    assert not writes_of_the_monitor(monitor)
    found = findings(out)
    assert set(found) == question_ids(notebook) - set(absent)
    assert all(found[name]["name"] == name for name in found)
    assert [path.name for path in tmp_path.iterdir()] == [notebook.name], "nothing else is written where it runs"


def test_plain_nbclient_and_jupyter_execute_run_to_the_end(
    sandbox: dict[str, Any], checkout: Path, tmp_path: Path
) -> None:
    notebook = checkout / "notebooks" / "00_start_here.ipynb"
    source = notebook.read_text()
    (tmp_path / "by_nbclient.ipynb").write_text(source)
    (tmp_path / "by_jupyter.ipynb").write_text(source)
    nbclient = (
        "import nbformat, nbclient; nb = nbformat.read('by_nbclient.ipynb', 4); "
        "nbclient.NotebookClient(nb, kernel_name='python3').execute(); nbformat.write(nb, 'by_nbclient.ipynb')"
    )
    done = run("-c", nbclient, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    done = run("-m", "jupyter", "execute", "--inplace", "by_jupyter.ipynb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("by_nbclient.ipynb", "by_jupyter.ipynb"):
        assert set(findings(tmp_path / name)) == question_ids(notebook)


def test_the_environment_of_the_tests_reaches_the_kernel(sandbox: dict[str, Any]) -> None:
    assert os.environ["XAI_RUNBOOK_SANDBOX"]
