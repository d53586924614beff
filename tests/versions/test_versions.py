"""Every query, question and change of the database on every PostgreSQL from 12 to 18 that can be had; 15 each time.

Everything is found, nothing is listed: a file that is put into `sql/` and an operation that takes a `Database` are
tried here on all versions. `make torture-postgres` runs them and prints a table.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tomli_w
from psycopg.sql import SQL, Identifier, Literal

from tests.support import clusters, servers
from tests.support.discovered import arguments, queries
from tests.versions.conftest import TABLE, WHY
from xai_runbook import apply, connect
from xai_runbook.changes.journals import unchecked_journal
from xai_runbook.environment import Environment
from xai_runbook.errors import AccessDenied, NoData, NotConfigured, XaiRunbookError
from xai_runbook.model.outcome import Outcome
from xai_runbook.model.plans import Plan
from xai_runbook.operations.backups import dumps
from xai_runbook.operations.database import indexes, maintenance, sessions
from xai_runbook.pgbackup import fingerprint
from xai_runbook.pgbackup.database_properties import COLUMNS, carry_over, create, differences, fixed_differences
from xai_runbook.reports.check import run_questions
from xai_runbook.sandbox.components.backups import archive
from xai_runbook.sandbox.components.backups import folder as backups_folder
from xai_runbook.sandbox.components.postgres_template import SUPERUSER
from xai_runbook.sandbox.components.standby import NAME
from xai_runbook.sql import statement, statements

VERSIONS = [
    pytest.param(version, id=f"{version}", marks=[] if version == 15 else pytest.mark.torture)
    for version in servers.RELEASES
]
NOT_PER_SERVER = re.compile(r"_(before|since)_")
"""Variants by an extension's version: the operations choose among them."""

TEXTS = {"statement": SQL("SELECT 1"), "value": Literal("10"), "libraries": Literal("pg_stat_statements")}
NAMES = {"schema": ("public",), "table": ("public", "blocks"), "columns": ("height",)}


class Server(clusters.Cluster):
    """One version: a primary, its standby, and the environment that names them."""

    version: int
    follower: clusters.Cluster
    environment: str
    note: Callable[[str, str], None]


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    version = request.param
    table, why = request.config.stash[TABLE], request.config.stash[WHY]
    if version not in servers.found() and (reason := servers.fetch(version)):
        why.append(f"PostgreSQL {version} skipped: {reason}")
        pytest.skip(f"PostgreSQL {version}: {reason}")
    with clusters.pair(tmp_path_factory.mktemp(f"postgres-{version}"), servers.found()[version]) as (first, second):
        made = Server(first.layout, first.part)
        made.process, made.version, made.follower = first.process, version, second
        made.environment = f"postgres-{version}"

        def note(name: str, what: str) -> None:
            table.setdefault(name, {})[version] = what

        made.note = note
        configuration = tmp_path_factory.mktemp("configuration")
        (configuration / f"{made.environment}.toml").write_text(tomli_w.dumps(told(made)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XAI_RUNBOOK_CONFIG", str(configuration))
            yield made


def told(server: Server) -> dict[str, Any]:
    """The settings of an environment that consists of this database alone."""
    monitor, operator = server.layout.role("monitor"), server.layout.role("operator")
    tools = Path(server.part.argv[server.part.argv.index("-D") - 1]).parent
    stored = {"folder": backups_folder(server.layout), "archive": archive(server.layout), "programs": tools}
    return {
        **({"backups": {key: str(path) for key, path in stored.items()}} if (tools / "pg_dump").exists() else {}),
        "database": {
            "host": server.layout.host, "port": server.port, "user": monitor.name, "sslmode": "disable",
            "password": f"file:{monitor.password_file}", "timeout": "20s", "standbys": [NAME],
            "examined_tables": ["public.blocks", "public.wallets"],
            "operator": {"user": operator.name, "password": f"file:{operator.password_file}"},
        },
        "outputs": {"journal": str(server.layout.folder / "journal")},
    }  # fmt: skip


@pytest.fixture
def env(server: Server) -> Iterator[Environment]:
    made = connect(server.environment)
    if not unchecked_journal(made).identity:
        unchecked_journal(made).create()
    yield made
    made.database.close()


def test_the_server_is_of_that_version(server: Server, env: Environment) -> None:
    (row,) = sessions.identity(env.database).to_dict("records")
    assert row["version"].split(".")[0] == str(server.version)
    server.note("(server)", row["version"].split(" ")[0])


def test_every_statement_is_understood(server: Server) -> None:
    """The server parses and analyses each file that is meant for it, without running it."""
    wrong = {}
    with server.superuser() as connection:
        connection.execute("CREATE TEMP SEQUENCE sequence")  # the sandbox's database has none
        for name in query_names():
            if NOT_PER_SERVER.search(name):
                continue
            text = statement(name, server.version)
            try:
                prepared = connection.pgconn.prepare(b"", as_prepared(text, connection))
                if prepared.error_message:
                    wrong[name] = prepared.error_message.decode(errors="replace").strip()
                    # of an extension that came later with it
                    if "{schema}." in text and "does not exist" in wrong[name] and "function" in wrong[name]:
                        wrong.pop(name)
                        server.note(f"sql/{name}", "absent")
            except psycopg.Error as error:
                wrong[name] = str(error)
    server.note("sql/*.sql parsed", "FAIL" if wrong else "ok")
    assert not wrong


def test_f7_every_column_of_a_database_is_carried_over_compared_or_explained(server: Server) -> None:
    with server.superuser() as connection:
        found = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
            " AND attrelid IN ('pg_database'::regclass, 'pg_db_role_setting'::regclass)"
        ).fetchall()
    assert {row[0] for row in found} <= COLUMNS.keys()


LOCALES = {
    "libc": (12, "LC_COLLATE 'C' LC_CTYPE 'C'"),
    "icu": (15, "LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'"),
    "icu with rules": (16, "LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en' ICU_RULES '&a < g'"),
    "builtin": (17, "LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
}


@pytest.mark.parametrize("locale", LOCALES)
def test_f7_a_database_is_created_as_the_other_one_is(server: Server, locale: str) -> None:
    since, options = LOCALES[locale]
    if server.version < since:
        pytest.skip(f"since {since}")
    folder = os.open(server.data, os.O_PATH)
    where = {"host": f"/proc/self/fd/{folder}", "port": server.port, "user": SUPERUSER}
    try:
        with fingerprint.connect(**where, dbname="postgres") as session:
            try:
                session.execute(f"CREATE DATABASE first OWNER xai_owner TEMPLATE template0 {options}".encode())
            except psycopg.errors.FeatureNotSupported:
                pytest.skip("this build has no ICU")
            session.execute("ALTER DATABASE first CONNECTION LIMIT 7 IS_TEMPLATE true")
            session.execute("ALTER ROLE xai_app IN DATABASE first SET search_path = app, public")
            session.execute("GRANT CONNECT ON DATABASE first TO xai_app WITH GRANT OPTION")
            session.execute("COMMENT ON DATABASE first IS 'the first'")
            with fingerprint.connect(**where, dbname="first") as first:
                (facts,) = fingerprint.fetch_rows(first, "backup_source")
            for manifest in (facts, {"encoding": "UTF8", "collation": "C", "ctype": "C"}):
                create(session, "second", "first", manifest)
                rows = partial(fingerprint.fetch_rows, session)
                assert fixed_differences(rows, "first", "second") == []
                with session.transaction(force_rollback=True):
                    carry_over(session, "first", "second")
                assert "connection limit -1 instead of 7" in differences(rows, "first", "second")
                with session.transaction():
                    carry_over(session, "first", "second")
                assert differences(rows, "first", "second") == []
                session.execute("ALTER DATABASE second IS_TEMPLATE false")
                session.execute("DROP DATABASE second")
    finally:
        with server.superuser("postgres") as session:
            for name in ("first", "second"):
                with suppress(psycopg.errors.InvalidCatalogName):
                    session.execute(f"ALTER DATABASE {name} IS_TEMPLATE false".encode())
                    session.execute(f"DROP DATABASE {name}".encode())
        os.close(folder)


def test_every_health_question(server: Server, env: Environment) -> None:
    """As `xai-runbook check`: nothing is unknown for the version's sake."""
    result = run_questions(server.environment, seconds=60)
    found = {answer.name: answer.finding for answer in result.answers if answer.finding is not None}
    assert len(found) > 5
    for name, finding in found.items():
        server.note(f"check {name}", finding.status.value)
    wrong = {name: finding.summary for name, finding in found.items() if finding.status.value != "ok"}
    assert not wrong


def test_every_query_by_itself(server: Server, env: Environment) -> None:
    """Every operation that takes the database and nothing that has to be made up."""
    wrong = {}
    for name, ask in queries():
        try:
            came = ask(env.database, **arguments(name))
            server.note(name, f"{len(came)} rows")
        except NotConfigured:
            server.note(name, "not set")
        except (NoData, AccessDenied) as error:
            server.note(name, "unknown")
            if server.version == 15:
                wrong[name] = str(error)
        except XaiRunbookError as error:
            server.note(name, "FAIL")
            wrong[name] = str(error)
    assert not wrong


def test_every_query_on_a_standby(server: Server) -> None:
    """What asks the primary asks a standby too: it writes nothing and needs nothing that recovery lacks."""
    wrong = {}
    with server.follower.handle(in_recovery=True, timeout="20s") as standby:
        for name, ask in queries():
            try:
                ask(standby, **arguments(name))
            except (NoData, AccessDenied, NotConfigured):
                pass
            except XaiRunbookError as error:
                wrong[name] = str(error)
    server.note("queries on a standby", "FAIL" if wrong else "ok")
    assert not wrong


def carry_out(plan: Plan, server: Server, env: Environment) -> None:
    assert plan.steps, plan.refused or plan.note
    outcome = apply(plan, env, confirm=plan.confirmation, reason="versions")
    assert isinstance(outcome, Outcome)
    server.note(f"apply {plan.change}", outcome.status)
    assert outcome.status == "done", outcome


def test_changes(server: Server, env: Environment, terminal: None) -> None:
    """The main changes, each through the door."""
    carry_out(maintenance.vacuum(env.database, tables=["public.wallets"]), server, env)
    carry_out(maintenance.reindex(env.database, index="public.blocks_mined_at", disk_space_checked=True), server, env)
    carry_out(
        indexes.create_index(env.database, table="public.wallets", columns=["created_at"], disk_space_checked=True),
        server,
        env,
    )
    carry_out(indexes.drop_index(env.database, index="public.wallets_created_at_idx"), server, env)
    with session(server) as victim:
        sleeper = threading.Thread(target=sleep, args=(victim,))
        sleeper.start()
        pid = victim.info.backend_pid
        clusters.eventually(lambda: pid in set(sessions.sessions(env.database).query("state == 'active'")["pid"]))
        carry_out(sessions.cancel(env.database, pids=[pid]), server, env)
        sleeper.join(10)
        carry_out(sessions.terminate(env.database, pids=[pid]), server, env)


@pytest.mark.torture
def test_a_dump(server: Server, env: Environment, terminal: None) -> None:
    """Dumped, restored and compared, where the version came with its own tools."""
    if env.settings.backups is None:
        server.note("apply backups.dump", "no tools")
        pytest.skip(f"PostgreSQL {server.version} came without pg_dump")
    carry_out(dumps.dump(env.database, env.backups), server, env)
    assert dumps.stored(env.backups)["state"].iloc[0] == "verified"


def sleep(victim: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.errors.QueryCanceled):
        victim.execute("SELECT pg_sleep(60)")


def session(server: Server) -> psycopg.Connection[Any]:
    app = server.layout.role("app")
    return psycopg.connect(
        host=server.layout.host, port=server.port, dbname="xai_blockchain", user=app.name, password=app.password(),
        autocommit=True,
    )  # fmt: skip


def query_names() -> list[str]:
    """The queries of `sql/`, without the versions in their files' names."""
    names = set(statements())
    return sorted({re.sub(r"_\d+$", "", name) if re.sub(r"_\d+$", "", name) in names else name for name in names})


def as_prepared(text: str, connection: psycopg.Connection[Any]) -> bytes:
    """The statement with numbered parameters, and something in the place of each name."""
    placed = re.findall(r"\{([a-z]\w*)\}", text)
    words = {word: TEXTS.get(word) or Identifier(*NAMES.get(word, (word,))) for word in placed}
    if words:
        text = SQL(text).format(**words).as_string(connection)  # type: ignore[arg-type]
    numbers: dict[str, int] = {}
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${numbers.setdefault(match[1], len(numbers) + 1)}", text)
    return (numbered.replace("%%", "%") if numbers else numbered).encode()
