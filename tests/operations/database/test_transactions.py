"""What was committed and what was not, on a real server, and what the log is made of; and what it takes to be told."""

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

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")
LIMITS = load("sandbox").limits


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("transactions")) as cluster:
        yield cluster


def test_the_newest_first_with_what_became_of_each(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.superuser() as other, server.handle() as database:
        (committed,) = connection.execute("SELECT txid_current()").fetchone() or (0,)
        other.execute("BEGIN")
        (going_on,) = other.execute("SELECT txid_current()").fetchone() or (0,)
        connection.execute("BEGIN")
        (aborted,) = connection.execute("SELECT txid_current()").fetchone() or (0,)
        connection.execute("ROLLBACK")
        told = transactions.recent_transactions(database, most=50).set_index("xid")
        other.execute("ROLLBACK")
        mine = told.loc[[aborted, going_on, committed]]
        assert list(mine["status"]) == ["aborted", "in progress", "committed"]
        assert told.index.is_monotonic_decreasing
        assert mine.loc[committed, "committed_at"].tzinfo is not None
        assert pd.isna(mine.loc[aborted, "committed_at"])


def test_many_that_were_rolled_back(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        assert transactions.check_aborted(
            transactions.recent_transactions(database), LIMITS.database.rollback_ratio
        ).status is Status.OK  # fmt: skip
        for _ in range(60):
            connection.execute("BEGIN")
            connection.execute("SELECT txid_current()")
            connection.execute("ROLLBACK")
        found = transactions.check_aborted(
            transactions.recent_transactions(database, most=100), LIMITS.database.rollback_ratio
        )
        assert found.status is Status.ALERT
        assert "of the last 100 that wrote were rolled back" in found.summary


def test_counts_since_the_statistics_began(server: clusters.Cluster) -> None:
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


def test_without_commit_times(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = off")
    server.stop()
    server.start()
    try:
        with server.handle() as database:
            told = transactions.recent_transactions(database, most=50)
            assert told["committed_at"].isna().all()
            assert (told["status"] == "committed").any()
    finally:
        with server.superuser() as connection:
            connection.execute("ALTER SYSTEM RESET track_commit_timestamp")
        server.stop()
        server.start()


def test_the_log_is_told_also_where_it_would_begin_in_a_segment_that_was_switched(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        if connection.info.server_version < 150000:
            pytest.skip("pg_walinspect came with 15")
        connection.execute("CREATE TABLE public.few AS SELECT 1 AS n")
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("INSERT INTO public.few SELECT generate_series(1, 1000)")
        for back in (1, 100_000, 1_000_000, 3_000_000, 6_000_000):
            assert set(transactions.wal_by_kind(database, least_bytes=back)["error"]) == {""}
        connection.execute("DROP TABLE public.few")
        connection.execute("SELECT pg_switch_wal()")
        assert set(transactions.wal_by_kind(database, least_bytes=1)["error"]) == {""}, "at a segment's very beginning"


def test_what_the_log_is_made_of(server: clusters.Cluster) -> None:
    with server.superuser() as connection, server.handle() as database:
        if connection.info.server_version < 150000:
            pytest.skip("pg_walinspect came with 15")
        connection.execute("CREATE TABLE public.noise AS SELECT n FROM generate_series(1, 5000) AS n")
        told = transactions.wal_by_kind(database).set_index("kind")
        assert set(told["error"]) == {""}, told
        assert told.loc["Heap", "records"] > 1000
        assert told["size_bytes"].sum() > 100_000
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_get_wal_stats FROM xai_monitor")
        (row,) = transactions.wal_by_kind(database).to_dict("records")
        assert "GRANT EXECUTE ON FUNCTION public.pg_get_wal_stats" in row["error"]
        connection.execute("DROP EXTENSION pg_walinspect")
        (row,) = transactions.wal_by_kind(database).to_dict("records")
        assert "CREATE EXTENSION pg_walinspect" in row["error"]


def test_nothing_to_judge_is_unknown() -> None:
    none = pd.DataFrame({"xid": [1, 2], "status": ["in progress", None]})
    assert transactions.check_aborted(none, LIMITS.database.rollback_ratio).status is Status.UNKNOWN


def test_how_many_is_bounded(env: Environment) -> None:
    for most in (0, 10**9):
        with pytest.raises(InputError, match="most goes from 1"):
            transactions.recent_transactions(env.database, most=most)
