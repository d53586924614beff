"""Recent transactions, transaction counts and the contents of the WAL, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest

from tests.support import clusters
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError
from xai_runbook.model.findings import Status
from xai_runbook.operations.database import transactions
from xai_runbook.sandbox.components import programs
from xai_runbook.settings.loading import load

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")
LIMITS = load("sandbox").limits


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("transactions")) as cluster:
        yield cluster


def test_recent_transactions(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.superuser() as other, server.handle() as database:
        (committed,) = connection.execute("SELECT txid_current()").fetchone() or (0,)
        other.execute("BEGIN")
        (going_on,) = other.execute("SELECT txid_current()").fetchone() or (0,)
        connection.execute("BEGIN")
        (aborted,) = connection.execute("SELECT txid_current()").fetchone() or (0,)
        connection.execute("ROLLBACK")
        recent = transactions.recent_transactions(database, max_rows=50).set_index("xid")
        other.execute("ROLLBACK")
        mine = recent.loc[[aborted, going_on, committed]]
        assert list(mine["status"]) == ["aborted", "in progress", "committed"]
        assert recent.index.is_monotonic_decreasing
        assert mine.loc[committed, "committed_at"].tzinfo is not None
        assert pd.isna(mine.loc[aborted, "committed_at"])


def test_many_rollbacks(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        assert transactions.check_aborted(
            transactions.recent_transactions(database), LIMITS.database.rollback_ratio
        ).status is Status.OK  # fmt: skip
        for _ in range(60):
            connection.execute("BEGIN")
            connection.execute("SELECT txid_current()")
            connection.execute("ROLLBACK")
        found = transactions.check_aborted(
            transactions.recent_transactions(database, max_rows=100), LIMITS.database.rollback_ratio
        )
        assert found.status is Status.ALERT
        assert "of the last 100 writing transactions were rolled back" in found.summary


def test_transaction_counts(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        before = transactions.transaction_counts(database).set_index("database").loc["xai_blockchain"]
        connection.execute("BEGIN")
        connection.execute("ROLLBACK")
        connection.execute("SELECT pg_stat_force_next_flush()" if connection.info.server_version >= 150000 else "")
        after = clusters.eventually(
            lambda: (
                (t := transactions.transaction_counts(database).set_index("database").loc["xai_blockchain"])[
                    "rollbacks"
                ]
                > before["rollbacks"]
                and [t]
            )
        )
        assert 0 < after[0]["rollback_ratio"] < 1


def test_without_commit_timestamps(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = off")
    server.stop()
    server.start()
    try:
        with server.handle() as database:
            recent = transactions.recent_transactions(database, max_rows=50)
            assert recent["committed_at"].isna().all()
            assert (recent["status"] == "committed").any()
    finally:
        with server.superuser() as connection:
            connection.execute("ALTER SYSTEM RESET track_commit_timestamp")
        server.stop()
        server.start()


def test_wal_by_kind_starts_at_a_segment_that_has_records(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        if connection.info.server_version < 150000:
            pytest.skip("pg_walinspect came with 15")
        connection.execute("CREATE TABLE public.few AS SELECT 1 AS n")
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("INSERT INTO public.few SELECT generate_series(1, 1000)")
        for back in (1, 100_000, 1_000_000, 3_000_000, 6_000_000):
            assert set(transactions.wal_by_kind(database, min_bytes=back)["error"]) == {""}
        connection.execute("DROP TABLE public.few")
        connection.execute("SELECT pg_switch_wal()")
        assert set(transactions.wal_by_kind(database, min_bytes=1)["error"]) == {""}, "at the start of a segment"


def test_wal_by_kind(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        if connection.info.server_version < 150000:
            pytest.skip("pg_walinspect came with 15")
        connection.execute("CREATE TABLE public.noise AS SELECT n FROM generate_series(1, 5000) AS n")
        kinds = transactions.wal_by_kind(database).set_index("kind")
        assert set(kinds["error"]) == {""}, kinds
        assert kinds.loc["Heap", "records"] > 1000
        assert kinds["size_bytes"].sum() > 100_000
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_get_wal_stats FROM xai_monitor")
        (row,) = transactions.wal_by_kind(database).to_dict("records")
        assert "GRANT EXECUTE ON FUNCTION public.pg_get_wal_stats" in row["error"]
        connection.execute("DROP EXTENSION pg_walinspect")
        (row,) = transactions.wal_by_kind(database).to_dict("records")
        assert "CREATE EXTENSION pg_walinspect" in row["error"]


def test_no_ended_transaction_is_unknown() -> None:
    none = pd.DataFrame({"xid": [1, 2], "status": ["in progress", None]})
    assert transactions.check_aborted(none, LIMITS.database.rollback_ratio).status is Status.UNKNOWN


def test_max_rows_is_bounded(env: Environment) -> None:
    for max_rows in (0, 10**9):
        with pytest.raises(InputError, match="max_rows must be between 1"):
            transactions.recent_transactions(env.database, max_rows=max_rows)
