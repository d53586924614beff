"""The scripts that create our roles, run by psql as a person would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from tests.support import clusters
from xai_runbook.clients.postgres.reader import Database
from xai_runbook.model.secret import Secret
from xai_runbook.operations.database import sessions
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.components.postgres_template import SUPERUSER
from xai_runbook.settings.database import DatabaseSettings

SCRIPTS = ["public", "reader", "operator"]
PSQL = shutil.which("psql")


def script(name: str) -> str:
    return files("xai_runbook.sql").joinpath("roles", f"{name}.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_right_has_its_reason_above_it(name: str) -> None:
    for paragraph in re.split(r"\n\s*\n", script(name)):
        assert "--" in paragraph, paragraph


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    if PSQL is None or programs.find("postgres") is None:
        pytest.skip("needs PostgreSQL and psql")
    with clusters.primary(tmp_path_factory.mktemp("roles")) as cluster:
        yield cluster


def psql(server: clusters.Cluster, text: str, *options: str, database: str) -> subprocess.CompletedProcess[str]:
    folder = os.open(server.data, os.O_PATH)  # a path by its descriptor is short enough for a socket
    where = ["-h", f"/proc/self/fd/{folder}", "-p", str(server.port), "-U", SUPERUSER, "-d", database]
    try:
        return subprocess.run(
            [str(PSQL), "-X", "-q", *where, *options], input=text, pass_fds=[folder], capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(folder)


def test_psql_makes_roles_of_other_names_in_another_database(server: clusters.Cluster, tmp_path: Path) -> None:
    stop = ("-v", "ON_ERROR_STOP=1")
    assert psql(server, "CREATE DATABASE other", *stop, database="postgres").returncode == 0
    assert psql(server, "CREATE EXTENSION amcheck", *stop, database="other").returncode == 0
    for name in SCRIPTS:
        text = script(name).replace("xai_monitor", "other_reader").replace("xai_operator", "other_operator")
        done = psql(server, text, *stop, database="other")
        assert (done.returncode, done.stderr) == (0, "")
    psql(server, "ALTER ROLE other_reader PASSWORD 'seen-by-tests-only'", *stop, database="other")
    (tmp_path / "password").write_text("seen-by-tests-only\n")
    (tmp_path / "password").chmod(0o600)
    handle = Database(
        DatabaseSettings(
            host="127.0.0.1", port=server.port, dbname="other", user="other_reader", sslmode="disable",
            password=Secret(f"file:{tmp_path / 'password'}"),
        )
    )  # fmt: skip
    try:
        (row,) = sessions.identity(handle).to_dict("records")
        assert (row["role"], row["write_privileges"]) == ("other_reader", "")
        assert sessions.connections(handle)["used"].iloc[0] >= 1
    finally:
        handle.close()


@pytest.mark.parametrize("name", ["reader", "operator"])
def test_a_script_can_be_run_again(server: clusters.Cluster, name: str) -> None:
    done = psql(server, script(name), database="xai_blockchain")
    (error,) = re.findall(r"ERROR:  (.*)", done.stderr)
    assert re.fullmatch(r'role "xai_\w+" already exists', error)
