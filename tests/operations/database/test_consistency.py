"""Corruption on a real server: damaged pages, an index without some rows, invalid rows; otherwise `unknown`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support import clusters
from xai_runbook.environment import Environment
from xai_runbook.errors import Damaged, NoData, NotConfigured
from xai_runbook.model.findings import Finding, Status
from xai_runbook.operations.database import consistency
from xai_runbook.sandbox.components import postgres_template, programs
from xai_runbook.settings.loading import load

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")
LIMITS = load("sandbox").limits
ODD = ('a"b', "Mempool", "x" * 63, "with space")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("consistency")) as cluster:
        yield cluster


def examined(server: clusters.Cluster, *tables: str) -> Finding:
    with server.handle() as database:
        return consistency.check_consistency(
            consistency.examination(database, tables=tables), LIMITS.database.consistency
        )


def pages(server: clusters.Cluster) -> Finding:
    with server.handle() as database:
        return consistency.check_checksums(consistency.checksums(database), LIMITS.database.checksums)


def overwrite(server: clusters.Cluster, table: str) -> None:
    """Overwrite 16 bytes in the middle of the table's first page while the server is stopped."""
    with server.superuser() as connection:
        row = connection.execute("SELECT pg_relation_filepath(%s::regclass)", [table]).fetchone()
        assert row is not None
    server.stop()
    with open(server.data / row[0], "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 16)
    server.start()


def test_an_intact_database(env: Environment) -> None:
    relations = consistency.examination(env.database)
    assert set(relations["kind"]) == {"table", "index"}
    found = consistency.check_consistency(relations, env.limits.database.consistency)
    assert found.status is Status.OK and found.summary.endswith("are intact")
    assert (
        consistency.check_checksums(consistency.checksums(env.database), env.limits.database.checksums).status
        is Status.OK
    )


def test_an_index_without_some_rows(server: clusters.Cluster) -> None:
    """As after a bug or a collation change: the index is ordered, but a row of the intact table is not in it."""
    with server.superuser() as connection:
        connection.execute("CREATE TABLE public.ledger AS SELECT n FROM generate_series(1, 500) AS n")
        connection.execute("CREATE INDEX ledger_n ON public.ledger (n)")
        assert examined(server, "public.ledger").status is Status.OK
        ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'public.ledger_n'::regclass"
        connection.execute(ready, [False])
        connection.execute("INSERT INTO public.ledger VALUES (501)")
        connection.execute(ready, [True])
    found = examined(server, "public.ledger")
    assert (found.status, found.targets) == (Status.ALERT, ("public.ledger_n",))
    assert "lacks matching index tuple" in found.summary
    with server.superuser() as connection:
        connection.execute("REINDEX INDEX public.ledger_n")
    assert examined(server, "public.ledger").status is Status.OK


def test_invalid_rows(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE TABLE public.frozen AS SELECT n FROM generate_series(1, 50) AS n")
        connection.execute(
            "UPDATE pg_class SET relfrozenxid = (txid_current() %% 4294967296)::text::xid"
            " WHERE oid = 'public.frozen'::regclass", []
        )  # fmt: skip
    found = examined(server, "public.frozen", "public.wallets")
    assert (found.status, found.targets) == (Status.ALERT, ("public.frozen",))
    assert "page 0: " in found.summary
    with server.superuser() as connection:
        connection.execute("DROP TABLE public.frozen")


def test_a_damaged_page(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE TABLE public.paid AS SELECT n, repeat('x', 200) FROM generate_series(1, 99) AS n")
    assert pages(server).status is Status.OK
    overwrite(server, "public.paid")
    found = examined(server, "public.paid")
    assert (found.status, found.targets) == (Status.ALERT, ("public.paid",))
    assert "invalid page in block 0" in found.summary
    counted = clusters.eventually(lambda: (f := pages(server)).status is Status.ALERT and f)
    assert counted.targets == ("xai_blockchain",)
    assert "wrong checksum" in counted.summary
    with server.superuser() as connection:
        connection.execute("DROP TABLE public.paid")
        connection.execute("SELECT pg_stat_reset()")
    clusters.eventually(lambda: pages(server).status is Status.OK)


def test_any_query_reports_a_damaged_page(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE TABLE public.seen AS SELECT n FROM generate_series(1, 9) AS n")
        oid = connection.execute("SELECT 'public.seen'::regclass::oid::int8").fetchone()
        assert oid is not None
    overwrite(server, "public.seen")
    with server.handle() as database, pytest.raises(Damaged, match="stored data is damaged: invalid page"):
        database.rows("examine_table", {"oid": oid[0]}, {"schema": ("public",)})
    with server.superuser() as connection:
        connection.execute("DROP TABLE public.seen")
        connection.execute("SELECT pg_stat_reset()")


def test_names_are_taken_literally(server: clusters.Cluster) -> None:
    """Quotes, capitals, spaces, the longest name; a longer one would be truncated to another table's."""
    from psycopg.sql import SQL, Identifier

    with server.superuser() as connection:
        connection.execute('CREATE SCHEMA "s p"')
        for name in ODD:
            connection.execute(SQL('CREATE TABLE "s p".{} (n int PRIMARY KEY)').format(Identifier(name)))
        connection.execute('CREATE TABLE "s p".parts (n int, PRIMARY KEY (n)) PARTITION BY RANGE (n)')
        connection.execute('CREATE TABLE "s p".part_1 PARTITION OF "s p".parts FOR VALUES FROM (0) TO (10)')
    with server.handle() as database:
        relations = consistency.examination(database, tables=[f"s p.{name}" for name in (*ODD, "parts")])
        assert list(relations["error"].unique()) == [""]
        assert {f"s p.{name}" for name in (*ODD, "part_1")} <= set(relations["relation"])
        assert len(relations) == 2 * (len(ODD) + 1)
        found = consistency.check_consistency(
            consistency.examination(database, tables=[f"s p.{'x' * 64}", "public.blocks"]), LIMITS.database.consistency
        )
    assert found.status is Status.UNKNOWN and "the table does not exist" in found.summary


def test_without_the_privilege(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION bt_index_check(regclass, boolean) FROM xai_monitor")
        try:
            found = examined(server, "public.blocks")
        finally:
            connection.execute("GRANT EXECUTE ON FUNCTION bt_index_check(regclass, boolean) TO xai_monitor")
    assert found.status is Status.UNKNOWN
    assert "GRANT EXECUTE ON FUNCTION public.bt_index_check(regclass, boolean)" in found.summary


def test_without_the_extension(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        connection.execute("BEGIN; DROP EXTENSION amcheck; COMMIT")
        try:
            with pytest.raises(NoData, match="CREATE EXTENSION amcheck"):
                consistency.examination(database, tables=["public.blocks"])
        finally:
            connection.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")
            connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_catalog TO xai_monitor")
        assert examined(server, "public.blocks").status is Status.OK, "wherever the extension is"


def test_no_table_is_named(server: clusters.Cluster) -> None:
    with server.handle() as database, pytest.raises(NotConfigured):
        consistency.examination(database)


def test_checksums_that_are_off_are_no_good_answer(tmp_path_factory: pytest.TempPathFactory) -> None:
    with clusters.primary(tmp_path_factory.mktemp("off")) as server:
        server.stop()
        tool = postgres_template.unprivileged(), programs.find("postgres")
        assert tool[1] is not None
        subprocess.run(
            [*tool[0], str(tool[1].with_name("pg_checksums")), "--disable", "-D", str(server.data)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        server.start()
        found = pages(server)
    assert found.status is Status.UNKNOWN
    assert "data checksums are off" in found.summary
