"""Slow statements by each version of pg_stat_statements, and EXPLAIN, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support import clusters
from xai_runbook.environment import Environment
from xai_runbook.errors import AccessDenied, InputError, NoData
from xai_runbook.model.findings import Status
from xai_runbook.operations.database import statements
from xai_runbook.sandbox.components import programs
from xai_runbook.settings.loading import load

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")
LIMITS = load("sandbox").limits
COLUMNS = [
    "query_id", "role", "calls", "total_seconds", "mean_seconds", "longest_seconds", "total_ratio", "rows",
    "hit_ratio", "read_seconds", "since", "query",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Cluster]:
    with clusters.primary(tmp_path_factory.mktemp("statements")) as cluster:
        yield cluster


def application(server: clusters.Cluster) -> psycopg.Connection[Any]:
    role = server.layout.role("app")
    return psycopg.connect(
        host="127.0.0.1", port=server.port, dbname="xai_blockchain", user=role.name, password=role.password(),
        autocommit=True,
    )  # fmt: skip


def run(server: clusters.Cluster, statement: str, times: int = 1) -> None:
    with application(server) as connection:
        for _ in range(times):
            connection.execute(statement.encode())


def test_orders(env: Environment) -> None:
    by_total = statements.slow_statements(env.database, max_rows=5)
    assert list(by_total.columns) == COLUMNS and len(by_total) == 5
    assert by_total["total_seconds"].is_monotonic_decreasing
    by_mean = statements.slow_statements(env.database, order="mean", min_calls=3)
    assert by_mean["mean_seconds"].is_monotonic_decreasing and (by_mean["calls"] >= 3).all()
    assert statements.slow_statements(env.database, order="calls")["calls"].is_monotonic_decreasing
    assert "xai_app" in set(statements.slow_statements(env.database, max_rows=100)["role"])
    share = statements.slow_statements(env.database, max_rows=10_000)["total_ratio"]
    assert share.sum() == pytest.approx(1)


def test_a_healthy_server_has_no_slow_statements(env: Environment) -> None:
    slowest = statements.slow_statements(env.database, order="mean", min_calls=statements.MIN_CALLS)
    assert statements.check_slow_statements(slowest, env.limits.database.statement_time).status is Status.OK
    nothing = statements.check_slow_statements(slowest.head(0), env.limits.database.statement_time)
    assert (nothing.status is Status.OK and "no statement has run often yet" in nothing.summary) or nothing.summary


def test_a_slow_statement_is_named(server: clusters.Cluster) -> None:
    """A statement above the shipped limit, run by as many sessions as it needs calls."""
    threads = [
        threading.Thread(target=run, args=(server, "SELECT pg_sleep(1.1) AS rich_list, 'hunter2' AS password"))
        for _ in range(statements.MIN_CALLS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with server.handle() as handle:
        slowest = statements.slow_statements(handle, order="mean", min_calls=statements.MIN_CALLS)
        finding = statements.check_slow_statements(slowest, LIMITS.database.statement_time)
    assert finding.status is Status.ALERT and len(finding.targets) == 1
    assert "rich_list" in finding.targets[0] and "hunter2" not in slowest.to_string()


def test_chart_of_calls_and_mean_time(env: Environment) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    from xai_runbook import charts

    limit = LIMITS.database.statement_time
    costly = statements.slow_statements(env.database, min_calls=2)
    slowest = statements.slow_statements(env.database, order="mean", min_calls=2)
    try:
        axes = charts.scatter(costly, slowest, x="calls", y="mean_seconds", label="query", limit=limit)
        points = axes.collections[0].get_offsets()
        both = {*costly["query"], *slowest["query"]}
        assert len(points) == len(both) and (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert axes.lines[0].get_ydata()[0] == limit.threshold
        named = [text.get_text() for text in axes.texts]
        assert len(named) == 5 and any(text.startswith(costly["query"].iloc[0][:10]) for text in named), named
        axes.figure.canvas.draw()
        empty = charts.scatter(costly.head(0), x="calls", y="mean_seconds", label="query", limit=limit)
        assert "nothing to show: no calls yet" in [text.get_text() for text in empty.texts]
        empty.figure.canvas.draw()
    finally:
        pyplot.close("all")


def test_texts_have_no_literals(server: clusters.Cluster) -> None:
    """Before 16, pg_stat_statements keeps the literals of utility statements."""
    with server.superuser() as connection:
        connection.execute("ALTER ROLE xai_owner PASSWORD 'hunter3'")
        connection.execute("COMMENT ON TABLE blocks IS 'it''s\n   hunter4'")
    with server.handle() as handle:
        statistics = statements.slow_statements(handle, max_rows=10_000)
    assert "hunter" not in statistics["query"].str.cat()
    assert "\n" not in statistics["query"].str.cat()


@pytest.mark.parametrize(
    ("version", "schema"), [("1.7", "public"), ("1.8", 'Strange"Schema'), ("1.10", "monitoring"), ("", "public")]
)
def test_each_version_of_the_extension(server: clusters.Cluster, version: str, schema: str) -> None:
    from psycopg.sql import SQL, Identifier, Literal

    with server.superuser() as connection:
        known = {row[0] for row in connection.execute(
            "SELECT version FROM pg_available_extension_versions WHERE name = 'pg_stat_statements'"
        )}  # fmt: skip
        if version and version not in known:
            pytest.skip(f"this PostgreSQL has no version {version} of it")
        connection.execute("DROP EXTENSION IF EXISTS pg_stat_statements")
        connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
        wanted = SQL(" VERSION {}").format(Literal(version)) if version else SQL("")
        connection.execute(SQL("CREATE EXTENSION pg_stat_statements SCHEMA {}{}").format(Identifier(schema), wanted))
        connection.execute(SQL("GRANT USAGE ON SCHEMA {} TO pg_monitor").format(Identifier(schema)))
    run(server, "SELECT count(*) FROM wallets", times=3)
    with server.handle() as handle:
        statistics = statements.slow_statements(handle, max_rows=10_000)
    (row,) = statistics[statistics["query"].str.startswith("SELECT count(*) FROM wallets")].to_dict("records")
    assert list(statistics.columns) == COLUMNS
    assert row["calls"] >= 3 and row["mean_seconds"] > 0 and row["role"] == "xai_app"


def test_why_there_are_no_statement_statistics(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("DROP EXTENSION IF EXISTS pg_stat_statements")
    try:
        with server.handle() as handle, pytest.raises(NoData, match="is not in this database") as caught:
            statements.slow_statements(handle)
        assert "CREATE EXTENSION" in caught.value.hint
    finally:
        with server.superuser() as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
            connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
            connection.execute("SELECT pg_reload_conf()")
    try:

        def none() -> bool:
            with server.superuser() as connection:
                return connection.execute("SHOW pg_stat_statements.track").fetchone() == ("none",)

        clusters.eventually(none)
        with server.handle() as handle, pytest.raises(NoData, match="track is none"):
            statements.slow_statements(handle)
    finally:
        with server.superuser() as connection:
            connection.execute("ALTER SYSTEM RESET pg_stat_statements.track")
            connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'auto_explain'")
        server.stop()
        server.start()
    try:
        with server.handle() as handle, pytest.raises(NoData, match="shared_preload_libraries"):
            statements.slow_statements(handle)
    finally:
        with server.superuser() as connection:
            connection.execute("ALTER SYSTEM RESET shared_preload_libraries")
        server.stop()
        server.start()


# --- explain ----------------------------------------------------------------------------------------------------


@pytest.fixture
def readable(server: clusters.Cluster) -> Iterator[clusters.Cluster]:
    with server.superuser() as connection:
        connection.execute("GRANT SELECT ON blocks TO xai_monitor")
        connection.execute("CREATE TABLE IF NOT EXISTS ran (n int)")
        connection.execute("GRANT SELECT ON ran TO xai_monitor")
    yield server
    with server.superuser() as connection:
        connection.execute("REVOKE SELECT ON blocks FROM xai_monitor")


def test_explain_runs_nothing(readable: clusters.Cluster) -> None:
    with readable.handle() as handle:
        plan = statements.explain(handle, statement="  SELECT * FROM public.blocks WHERE height = 5 ;")["plan"]
        assert "blocks_pkey" in plan.iloc[0] and "actual" not in plan.str.cat()
        slept = statements.explain(handle, statement="SELECT pg_sleep(3600)")
        assert "Result" in slept["plan"].iloc[0]
        assert statements.explain(handle)["plan"].to_list() == ["no statement was named"]
        odd = statements.explain(handle, statement="""SELECT 1 AS "50% {done}", '%s' WHERE 'a' LIKE '%{'""")
        assert len(odd)


def test_explain_analyze_of_a_select(readable: clusters.Cluster) -> None:
    with readable.handle() as handle:
        plan = statements.explain(handle, statement="SELECT count(*) FROM public.blocks", analyze=True)["plan"]
    assert "actual time" in plan.iloc[0] and "Execution Time" in plan.iloc[-1]


@pytest.mark.parametrize(
    "statement",
    [
        "ANALYZE SELECT 1", "(ANALYZE) SELECT 1", "DROP TABLE blocks", "; DROP TABLE blocks", "COPY blocks TO STDOUT",
        "DO $$ BEGIN END $$", "CREATE TABLE x AS SELECT 1", "EXECUTE x", "-- SELECT\nDROP TABLE blocks", "SELECTED",
    ],
)  # fmt: skip
def test_unsupported_statements_are_not_sent(readable: clusters.Cluster, statement: str) -> None:
    with readable.handle() as handle, pytest.raises(InputError, match="not a supported statement"):
        statements.explain(handle, statement=statement)


def test_a_select_that_writes_is_not_run(readable: clusters.Cluster) -> None:
    with readable.handle() as handle:
        statements.explain(handle, statement="SELECT 1 INTO public.ran_too")
        with pytest.raises((InputError, AccessDenied)):
            statements.explain(handle, statement="SELECT 1 INTO public.ran_too", analyze=True)
    with readable.superuser() as connection:
        assert connection.execute("SELECT to_regclass('public.ran_too')").fetchone() == (None,)


@pytest.mark.parametrize("analyze", [False, True])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; INSERT INTO public.ran VALUES (1)",
        "SELECT 1; SELECT pg_sleep(3600)",
        "WITH x AS (INSERT INTO public.ran VALUES (1) RETURNING n) SELECT * FROM x",
        "SELECT nextval('public.no_such')",
        "SELECT * FROM blocks",
    ],
)
def test_one_statement_and_no_write(readable: clusters.Cluster, statement: str, analyze: bool) -> None:
    with readable.handle() as handle:
        with pytest.raises((InputError, AccessDenied)):
            statements.explain(handle, statement=statement, analyze=analyze)
        assert len(handle.frame("identity")) == 1, "the handle still works"
    with readable.superuser() as connection:
        assert connection.execute("SELECT count(*) FROM ran").fetchone() == (0,)


@pytest.mark.parametrize(
    "call",
    [
        "pg_advisory_lock(1)", "pg_try_advisory_lock_shared(1)", "pg_terminate_backend(0)", "pg_cancel_backend(0)",
        "pg_logical_emit_message(false, 'a', 'b')", "set_config('work_mem', '1MB', false)",
        "pg_notify('a', 'b')", "pg_export_snapshot()",
    ],
)  # fmt: skip
def test_s17_explain_runs_no_function_with_effects(readable: clusters.Cluster, call: str) -> None:
    with readable.handle() as handle:
        with pytest.raises(InputError, match="it may have effects"):
            statements.explain(handle, statement=f"SELECT {call}", analyze=True)
        assert len(statements.explain(handle, statement=f"SELECT {call}")), "without analyze it is not run"
        assert len(statements.explain(handle, statement="SELECT now(), random()", analyze=True))


def test_explain_analyze_has_the_timeout_of_the_connection(readable: clusters.Cluster) -> None:
    from xai_runbook.errors import TimedOut

    with readable.handle(timeout="1s") as handle, pytest.raises(TimedOut):
        statements.explain(handle, statement="SELECT pg_sleep(60)", analyze=True)


def test_a_role_without_select_learns_what_to_grant(env: Environment) -> None:
    with pytest.raises(AccessDenied) as caught:
        statements.explain(env.database, statement="SELECT * FROM public.wallets")
    assert "GRANT SELECT" in caught.value.hint and "database.analyze" in caught.value.hint
