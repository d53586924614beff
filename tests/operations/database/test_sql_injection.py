"""SQL injection: hostile text as parameter and identifier, sent by a superuser so that an effect would show."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.support import clusters
from xai_runbook.clients.postgres.reader import _Query, _rows
from xai_runbook.errors import InputError, XaiRunbookError
from xai_runbook.sandbox.components import programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")

ACTS = ["DROP TABLE canary", "DELETE FROM canary", "CREATE TABLE mine ()", "CREATE ROLE mallory", "TRUNCATE canary"]
ROUND = ["", '"', "'", '""', "''", "\\'", "$$", "$a$", "*/", "/*", "--", ";", ")", "%s", "%(names)s", "{schema}", "\n"]
ROUND += [
    "E'",
    'U&"',
    "::text",
    "ü",
    "表",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "\ud800",
    "\0",
    "x" * 64,
    "dbname=",
    "host=/tmp ",
]
ROUND += ["postgresql://u@h/d?options=", "service=", " options='-c search_path=x'", "user=xai_superuser "]


def hostile(rng: random.Random) -> str:
    """Return a statement between characters that could end a literal or an identifier."""
    before, after = ("".join(rng.choices(ROUND, k=rng.randint(0, 4))) for _ in range(2))
    return f"{before};{rng.choice(ACTS)};{after}" if rng.random() < 0.7 else before + after


def everything(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return a row per object of the server, so that a difference shows what changed."""
    return connection.execute(
        "SELECT 'class', oid::text, relname::text FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace"
        " UNION ALL SELECT 'role', oid::text, rolname FROM pg_roles"
        " UNION ALL SELECT 'database', oid::text, datname FROM pg_database"
        " UNION ALL SELECT 'canary', n::text, '' FROM public.canary ORDER BY 1, 2, 3"
    ).fetchall()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("hostile")) as cluster:
        with cluster.superuser() as superuser:
            superuser.execute("CREATE TABLE public.canary AS SELECT generate_series(1, 7) n")
        yield cluster


@pytest.mark.timeout(900)  # 100,000 take 20 s, and much longer on a busy machine
@pytest.mark.parametrize("number", [5_000, pytest.param(100_000, marks=pytest.mark.torture)])
def test_as_parameters_and_as_identifiers_nothing_is_executed(server: clusters.Cluster, number: int) -> None:
    """Half of the texts are table names, half the schema of an extension."""
    rng = random.Random(number)
    refused = 0
    with server.superuser() as superuser:
        before = everything(superuser)
        for _ in range(0, number // 2, 100):
            names = [hostile(rng) for _ in range(100)]
            sendable = [name for name in names if "\0" not in name and "\ud800" not in name]
            refused += len(names) - len(sendable)
            query = _Query("tables_by_name", {"names": sendable, "role": rng.choice(sendable)}, None)
            assert _rows(superuser, query)[1] == []
            for name in set(names) - set(sendable):
                with pytest.raises((psycopg.DataError, UnicodeEncodeError)):
                    _rows(superuser, _Query("tables_by_name", {"names": [name], "role": ""}, None))
        for _ in range(number // 2):
            name = hostile(rng)
            with pytest.raises((psycopg.Error, UnicodeEncodeError, InputError)) as caught:
                _rows(superuser, _Query("examine_table", {"oid": 0}, {"schema": (name,)}))
            if isinstance(caught.value, psycopg.errors.InvalidSchemaName):
                cut = name.encode()[:63].decode(errors="ignore")
                assert caught.value.diag.message_primary == f'schema "{cut}" does not exist'
            else:
                assert not name or "\0" in name or "\ud800" in name, (name, caught.value)
        assert everything(superuser) == before
    assert refused > number // 100


def test_a_database_name_is_never_a_connection_string(server: clusters.Cluster) -> None:
    """Neither libpq's connection strings nor its URIs are read from a name."""
    rng = random.Random(5)
    real = [ACTS[0], """a'b"c\\d; --""", "$$ %s {x}"]
    with server.superuser() as superuser:
        for name in real:
            superuser.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
        before = everything(superuser)
        for name in real:
            with server.handle(dbname=name) as database:
                assert database.identity()["database"] == name
        for name in ["dbname=xai_blockchain", "postgresql://127.0.0.1/xai_blockchain", "host=x dbname=y"]:
            with pytest.raises(ValueError, match="plain name"), server.handle(dbname=name):
                pass
        for name in [hostile(rng) for _ in range(200)]:
            with pytest.raises((XaiRunbookError, ValueError)), server.handle(dbname=name) as database:
                database.identity()
        assert everything(superuser) == before
