"""Dead rows, wraparound and what holds back vacuum, on a real server, and the plans of maintenance."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support import clusters
from xai_runbook.clients.postgres.reader import Database
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError
from xai_runbook.model.findings import Status
from xai_runbook.operations.database import maintenance
from xai_runbook.sandbox.components import programs
from xai_runbook.sandbox.components.postgres_template import unprivileged
from xai_runbook.settings.database import DatabaseSettings
from xai_runbook.settings.loading import load

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")
LIMITS = load("sandbox").limits
OPERATOR = {"operator": {"user": "xai_operator"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("maintenance")) as cluster:
        yield cluster


# --- dead rows --------------------------------------------------------------------------------------------------


def test_a_healthy_database(env: Environment) -> None:
    frame = maintenance.dead_rows(env.database)
    assert {"public.blocks", "public.transactions", "public.utxos", "public.wallets"} <= set(frame["name"])
    assert maintenance.check_dead_rows(frame, env.limits.database.dead_row_ratio).status is Status.OK
    assert str(frame["vacuumed_at"].dt.tz) == "UTC"


def test_a_table_of_mostly_dead_rows_is_named(server: clusters.Cluster) -> None:
    """Rows are deleted from a table without autovacuum."""
    with server.superuser() as connection:
        connection.execute('CREATE TABLE "Mem Pool" (n int) WITH (autovacuum_enabled = off)')
        connection.execute('INSERT INTO "Mem Pool" SELECT n FROM generate_series(1, 4000) n')
        connection.execute('DELETE FROM "Mem Pool" WHERE n > 1000')
        connection.execute("CREATE TABLE three (n int); INSERT INTO three VALUES (1), (2), (3); DELETE FROM three")

    def alerting() -> Any:
        with server.handle() as handle:
            frame = maintenance.dead_rows(handle)
        finding = maintenance.check_dead_rows(frame, LIMITS.database.dead_row_ratio)
        return (frame, finding) if finding.status is Status.ALERT else None

    frame, finding = clusters.eventually(alerting)
    assert finding.targets == ("public.Mem Pool",), "three dead rows are ok"
    row = frame.iloc[0].to_dict()
    assert (row["dead_rows"], row["dead_ratio"], row["autovacuum_off"]) == (3000, 0.75, True)
    with server.superuser() as connection:
        connection.execute('VACUUM "Mem Pool"')
    with server.handle() as handle:
        clusters.eventually(
            lambda: (
                maintenance.check_dead_rows(maintenance.dead_rows(handle), LIMITS.database.dead_row_ratio).status
                is Status.OK
            )
        )


def test_vacuum_blockers(server: clusters.Cluster) -> None:
    with server.superuser() as old, server.superuser() as connection:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        connection.execute("CREATE TABLE later (n int)")
        with server.handle() as handle:
            row = maintenance.vacuum_blockers(handle).iloc[0]
        assert row["kind"] == "session" and f"pid {old.info.backend_pid} " in row["name"]
        assert row["transaction_age"] >= 1 and row["open_seconds"] >= 0
        old.execute("ROLLBACK")


# --- wraparound -------------------------------------------------------------------------------------------------


def test_transaction_ids_of_a_healthy_server(env: Environment) -> None:
    ages = maintenance.freeze_age(env.database)
    assert {"xai_blockchain", "postgres"} <= set(ages["database"])
    assert (ages["forced_from_age"] == 200_000_000).all()
    assert maintenance.check_wraparound(ages, env.limits.database.transaction_ids_used).status is Status.OK


def test_a_server_near_wraparound_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The next transaction ID is set to 1.2 billion."""
    with clusters.primary(tmp_path_factory.mktemp("wraparound")) as server:
        with server.superuser() as connection:
            # autovacuum would begin to freeze at once
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("ALTER SYSTEM SET autovacuum_freeze_max_age = 2000000000")
        server.stop()
        pages = 1_200_000_000 // 32768 // 32  # a segment has 32 pages of 32768 transactions
        jump = pages * 32 * 32768
        (server.data / "pg_xact" / f"{pages:04X}").write_bytes(b"\0" * 262144)
        program = programs.find("postgres")
        assert program is not None
        done = subprocess.run(
            [*unprivileged(), str(program.with_name("pg_resetwal")), "-x", str(jump), "-D", str(server.data)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        server.start()
        with server.handle() as handle:
            ages = maintenance.freeze_age(handle)
            finding = maintenance.check_wraparound(ages, LIMITS.database.transaction_ids_used)
    assert finding.status is Status.ALERT and "xai_blockchain" in finding.targets
    assert "above 50 %" in finding.summary
    assert 0.5 < ages["used_ratio"].max() < 0.6


# --- plans ------------------------------------------------------------------------------------------------------


def test_a_vacuum_names_its_tables(server: clusters.Cluster) -> None:
    with server.handle(**OPERATOR) as handle:
        plan = maintenance.vacuum(handle, tables=["public.wallets", "public.blocks"])
        assert plan.targets == ("table public.blocks", "table public.wallets")
        assert [step.name for step in plan.steps] == ["vacuum_table", "analyze_table"] * 2  # type: ignore[union-attr]
        assert 'VACUUM (SKIP_LOCKED) "public"."blocks"' in str(plan) and "FULL" not in str(plan)
        assert maintenance.vacuum(handle, tables=[]).note == "no table was named"
        for names in (["wallets"], ["public.WALLETS"], ["public.wallets", "public.wallets"], ["public.*"], ["%"]):
            with pytest.raises(InputError):
                maintenance.vacuum(handle, tables=names)
        with pytest.raises(InputError, match="at most 20"):
            maintenance.vacuum(handle, tables=[f"public.t{n}" for n in range(21)])


def test_tables_that_the_role_may_not_vacuum_are_left_out(server: clusters.Cluster) -> None:
    """The server would skip it with a warning and report success."""
    with server.superuser() as connection:
        connection.execute("CREATE TABLE of_another (n int)")
    with server.handle(**OPERATOR) as handle:
        tables = ["public.of_another", "public.wallets"]
        assert len(maintenance.vacuum(handle, tables=tables).targets) == 2, "the database owner may vacuum every table"
        with server.superuser() as connection:
            connection.execute("ALTER DATABASE xai_blockchain OWNER TO xai_superuser")
        try:
            plan = maintenance.vacuum(handle, tables=tables)
            alone = maintenance.vacuum(handle, tables=["public.of_another"])
        finally:
            with server.superuser() as connection:
                connection.execute("ALTER DATABASE xai_blockchain OWNER TO xai_owner")
    assert plan.targets == ("table public.wallets",)
    assert "may not vacuum them: public.of_another (of xai_superuser)" in plan.note
    assert not alone.steps and "may not vacuum any of these" in alone.refused


def test_a_partitioned_table_stands_for_its_partitions(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("SET ROLE xai_owner")
        connection.execute("CREATE TABLE whole (n int) PARTITION BY LIST (n)")
        connection.execute("CREATE TABLE whole_1 PARTITION OF whole FOR VALUES IN (1)")
        connection.execute("CREATE TABLE whole_2 PARTITION OF whole FOR VALUES IN (2)")
        connection.execute("CREATE INDEX ON whole (n)")
    with server.handle(**OPERATOR) as handle:
        assert maintenance.vacuum(handle, tables=["public.whole"]).targets == (
            "table public.whole_1", "table public.whole_2",
        )  # fmt: skip
        assert "name the indexes of its partitions" in maintenance.reindex(handle, index="public.whole_n_idx").refused
        assert len(maintenance.reindex(handle, table="public.whole_1").targets) == 1


def test_a_reindex_names_its_indexes(server: clusters.Cluster) -> None:
    with server.handle(**OPERATOR) as handle:
        plan = maintenance.reindex(handle, table="public.blocks")
        assert plan.targets == tuple(f"index public.blocks_{name}" for name in ("hash_key", "mined_at", "pkey"))
        assert all("CONCURRENTLY" in step.equivalent for step in plan.steps)
        assert len(plan.guards) == 2
        assert len(maintenance.reindex(handle, table="public.blocks", disk_space_checked=True).guards) == 1
        with pytest.raises(InputError, match="not both"):
            maintenance.reindex(handle, table="public.blocks", index="public.blocks_pkey")
        with pytest.raises(InputError, match="there are no indexes named"):
            maintenance.reindex(handle, index="public.blocks")
        assert "a system index" in maintenance.reindex(handle, index="pg_catalog.pg_class_oid_index").refused
        assert "does not own" in _reindex_of_another(server, handle)


def _reindex_of_another(server: clusters.Cluster, handle: Database) -> str:
    with server.superuser() as connection:
        connection.execute("CREATE TABLE strange (n int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))")
    assert "the index of an exclusion constraint" in maintenance.reindex(handle, index="public.strange_r_excl").refused
    return maintenance.reindex(handle, index="public.strange_pkey").refused


def test_only_invalid_indexes_are_dropped(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("SET ROLE xai_owner")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY by_kind ON transactions (kind)")
    with server.handle(**OPERATOR) as handle:
        plan = maintenance.drop_invalid_indexes(handle, indexes=["public.by_kind"])
        assert plan.targets == ("index public.by_kind",)
        assert "CREATE UNIQUE INDEX CONCURRENTLY by_kind" in str(plan.undo)
        mixed = maintenance.drop_invalid_indexes(handle, indexes=["public.by_kind", "public.blocks_pkey"])
        assert not mixed.steps and "these are valid: public.blocks_pkey" in mixed.refused


@pytest.mark.parametrize(
    "planned",
    [
        lambda handle: maintenance.vacuum(handle, tables=["public.wallets"]),
        lambda handle: maintenance.reindex(handle, index="public.wallets_pkey"),
        lambda handle: maintenance.drop_invalid_indexes(handle, indexes=["public.wallets_pkey"]),
    ],
)
def test_a_standby_and_a_proxy_are_refused(env: Environment, sandbox: dict[str, Any], planned: Any) -> None:
    there = env.settings.database
    assert there is not None
    port = sandbox["parts"]["standby"]["port"]
    standby = Database(DatabaseSettings.model_validate(there.model_dump() | {"port": port}))
    try:
        assert "a standby" in planned(standby).refused
    finally:
        standby.close()
    proxied = Database(there, proxied=True)
    assert "through a proxy" in planned(proxied).refused
    proxied.close()
