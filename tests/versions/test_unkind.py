"""Every query of a database by places that nobody thought of: an empty one, hostile names, a role that may see nothing.

Each is answered, or refused in words of ours; nothing falls over, and nothing is called an alert that is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from psycopg.sql import SQL, Identifier

from tests.support import clusters
from tests.support.discovered import arguments, queries
from xai_runbook.errors import XaiRunbookError
from xai_runbook.model.findings import Status
from xai_runbook.operations.database import consistency, indexes, sizes
from xai_runbook.reports.check import run_questions
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")
NAMES = ('a"b', "Mempool", "x" * 63, "with space", "semi;colon", "per%cent", "dollar$1", "{brace}", "été", "'quoted'")
WHOLE = [f"s {name}"[:63] + f".{name}" for name in NAMES]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("unkind")) as cluster, cluster.superuser() as superuser:
        superuser.execute("CREATE DATABASE nothing TEMPLATE template0")
        superuser.execute("CREATE DATABASE names TEMPLATE template0")
        superuser.execute("CREATE ROLE blind LOGIN")
        superuser.execute('CREATE ROLE "Mixed Case" LOGIN')
        with cluster.superuser("names") as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute("CREATE EXTENSION amcheck")
            connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO xai_monitor")
            for name in NAMES:
                words = {"schema": Identifier(f"s {name}"[:63]), "name": Identifier(name)}
                connection.execute(SQL("CREATE SCHEMA {schema}").format(**words))
                connection.execute(SQL("CREATE TABLE {schema}.{name} ({name} int PRIMARY KEY, b text)").format(**words))
                connection.execute(SQL("CREATE INDEX ON {schema}.{name} (b)").format(**words))
                connection.execute(SQL("INSERT INTO {schema}.{name} VALUES (1, 'x')").format(**words))
                connection.execute(SQL("SELECT count(*) AS {name} FROM {schema}.{name}").format(**words))
            connection.execute("VACUUM ANALYZE")
        yield cluster


def unanswered(server: clusters.Cluster, **settings: Any) -> dict[str, str]:
    """What fell over, by operation; what is refused in our words did not."""
    wrong = {}
    with server.handle(**settings) as database:
        for name, ask in queries():
            try:
                ask(database, **arguments(name))
            except XaiRunbookError as error:
                if not error.what or "refused the statement" in error.what:
                    wrong[name] = str(error)
            except Exception as error:
                wrong[name] = f"{type(error).__name__}: {error}"
    return wrong


def findings(server: clusters.Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> dict[str, Any]:
    """The health report of an environment that is this database alone."""
    monitor = server.layout.role("monitor")
    told = {
        "host": "127.0.0.1", "port": server.port, "user": monitor.name, "password": f"file:{monitor.password_file}",
        "sslmode": "disable", "timeout": "20s",
    }  # fmt: skip
    (folder / "unkind.toml").write_text(tomli_w.dumps({"database": told | more}))
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(folder))
    result = run_questions("unkind", seconds=60)
    assert result.status == "completed"
    return {answer.name: answer.finding for answer in result.answers if answer.finding is not None}


def test_an_empty_database(server: clusters.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not unanswered(server, dbname="nothing")
    found = findings(server, tmp_path, monkeypatch, dbname="nothing")
    assert not [f"{name}: {finding.summary}" for name, finding in found.items() if finding.status is Status.ALERT]


def test_hostile_names(server: clusters.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not unanswered(server, dbname="names")
    found = findings(
        server, tmp_path, monkeypatch, dbname="names", examined_tables=[f"s {n}"[:63] + f".{n}" for n in NAMES]
    )
    assert not [f"{name}: {finding.summary}" for name, finding in found.items() if finding.status is not Status.OK]


def test_a_role_that_may_see_nothing(server: clusters.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.superuser() as connection:
        connection.execute("REVOKE pg_monitor FROM xai_monitor")
        try:
            assert not unanswered(server)
            found = findings(server, tmp_path, monkeypatch)
        finally:
            connection.execute("GRANT pg_monitor TO xai_monitor")
    assert not [f"{name}: {finding.summary}" for name, finding in found.items() if finding.status is Status.ALERT]


def test_all_names_are_seen_as_they_are(server: clusters.Cluster) -> None:
    with server.handle(dbname="names") as database:
        assert set(WHOLE) <= set(sizes.table_sizes(database, max_rows=100)["name"])
        assert len(indexes.indexes(database)) >= 2 * len(NAMES)
        told = consistency.examination(database, tables=WHOLE)
        assert set(told["error"]) == {""}
