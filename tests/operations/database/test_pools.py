"""Connections by state, leaks, pool sizes and PgBouncer's pools, on a real server and a real PgBouncer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pandas as pd
import psycopg
import pytest

from tests.support.pace import stretched
from tests.support.postgres_server import SLOTS, Server, running
from xai_runbook import charts
from xai_runbook.changes.preflight import holds
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, NotConfigured
from xai_runbook.model.findings import Status
from xai_runbook.model.plans import Condition
from xai_runbook.operations import reachability
from xai_runbook.operations.database import pool_size, pools
from xai_runbook.operations.database import sessions as database
from xai_runbook.sandbox.components import pgbouncer, programs

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("pools")) as started:
        yield started


# --- connections and leaks --------------------------------------------------------------------------------------


def test_connections_by_state(server: Server) -> None:
    with ExitStack() as open_now, server.handle() as handle, server.session("app", "two"):
        one = open_now.enter_context(server.session("app", "one"))
        open_now.enter_context(one.transaction())
        one.execute("SELECT 1")
        frame = pools.connections_by_state(handle)
    counts = {(row["role"], row["state"]): row["session_count"] for row in frame.to_dict("records")}
    assert counts["xai_app", "idle"] == 1
    assert counts["xai_app", "idle in transaction"] == 1
    assert frame["database"].notna().all(), "no background processes (E68)"


def test_leaks_are_listed_by_application(server: Server, env: Environment) -> None:
    limit = env.limits.database.idle_sessions.__class__(
        **{**env.limits.database.idle_sessions.__dict__, "threshold": 3, "duration": "0s"}
    )
    with ExitStack() as sessions, server.handle() as handle:
        quiet = pools.check_connection_leaks(pools.connection_leaks(handle, idle_for="0s"), limit)
        for _ in range(4):
            sessions.enter_context(server.session("app", "leaky")).execute("SELECT 1")
        sessions.enter_context(server.session("app", "")).execute("SELECT 1")
        time.sleep(0.3)
        leaks = pools.connection_leaks(handle, idle_for="200ms")
        fresh = pools.connection_leaks(handle, idle_for="1h")
    assert quiet.status is Status.OK
    (row,) = leaks[leaks["application_name"] == "leaky"].to_dict("records")
    assert (row["session_count"], row["idle_count"], row["opened_last_hour_count"]) == (4, 4, 4)
    assert row["longest_idle_seconds"] >= 0.2
    assert fresh["idle_count"].sum() == 0, "no session has been idle for an hour"
    finding = pools.check_connection_leaks(leaks, limit)
    assert (finding.status, finding.targets) == (Status.ALERT, ("leaky as xai_app from 127.0.0.1",))
    assert "4 opened within the hour" in finding.summary
    assert "unnamed as xai_app from 127.0.0.1" in list(leaks["target"])


def test_no_other_session_is_ok(env: Environment) -> None:
    """Without the privilege the query raises, so no rows really are no sessions."""
    empty = pd.DataFrame({"target": [], "idle_count": [], "opened_last_hour_count": []})
    assert pools.check_connection_leaks(empty, env.limits.database.idle_sessions).status is Status.OK


# --- watching ---------------------------------------------------------------------------------------------------


def test_a_watch_uses_one_connection_and_ends(server: Server) -> None:
    shown: list[int] = []
    with server.handle() as handle:
        started = time.monotonic()
        frame = pools.watch_connections(
            handle, interval="100ms", duration="1s", on_sample=lambda samples: shown.append(len(samples))
        )
        assert time.monotonic() - started < stretched(5)
        assert len(server.backends()) == 1
    assert len(frame) >= 2 and shown == list(range(1, len(frame) + 1))
    assert (frame["usable_count"] == SLOTS - 3).all() and (frame["error"] == "").all()
    assert frame["at"].dt.tz is not None and frame["at"].is_monotonic_increasing
    assert (frame["used_ratio"] * frame["usable_count"] == frame["used_count"]).all()


def test_a_watch_continues_when_all_slots_are_taken(server: Server) -> None:
    """E37: its connection is open before the slots run out."""
    with server.handle() as handle, ExitStack() as sessions:
        pools.watch_connections(handle, interval="100ms", duration="0s")
        with suppress(psycopg.OperationalError):
            for _ in range(SLOTS + 1):
                sessions.enter_context(server.session("app"))
        frame = pools.watch_connections(handle, interval="100ms", duration="0s")
    assert frame["used_ratio"].iloc[-1] == 1


def test_a_failed_sample_is_a_row_with_the_error(server: Server) -> None:
    with server.handle() as handle:
        pools.watch_connections(handle, interval="100ms", duration="0s")
        server.stop()
        try:
            frame = pools.watch_connections(handle, interval="100ms", duration="100ms")
        finally:
            server.start()
        assert "refused" in frame["error"].iloc[0]
        assert frame["used_count"].isna().all() and frame["at"].notna().all()
        charts.live()(frame)  # outside a notebook it draws nothing


def test_a_watch_interrupted_in_its_first_sample_returns_no_rows() -> None:
    class Interrupted:
        def rows(self, *_: object) -> list[dict[str, object]]:
            raise KeyboardInterrupt

    watched = pools.watch_connections(Interrupted(), interval="100ms", duration="1s")  # type: ignore[arg-type]
    assert watched.empty and "used_ratio" in watched.columns


def test_invalid_intervals_and_durations_are_refused(server: Server) -> None:
    with server.handle() as handle:
        for interval, duration in (("0s", "1m"), ("5s", "2h"), ("-5s", "1m")):
            with pytest.raises(InputError):
                pools.watch_connections(handle, interval=interval, duration=duration)


# --- pool sizes ------------------------------------------------------------------------------------------------


def test_plan_pool_size(server: Server) -> None:
    with server.handle() as handle:
        terms = pool_size.plan_pool_size(handle, pool_size=2, processes=2, max_overflow=1, reserve=1)
        counts = terms.set_index("term")["connection_count"]
        assert counts["usable"] == SLOTS - 3
        assert counts["left"] == counts["usable"] - 1 + counts["others now"] - 6
        assert counts["largest that fits"] == 3
        terms = pool_size.plan_pool_size(handle)  # the runbook's 100
        assert terms.set_index("term")["connection_count"]["left"] < 0
        assert "does not fit" in terms.set_index("term")["why"]["left"]
        for wrong in ({"pool_size": 0}, {"processes": -1}, {"reserve": True}, {"pool_size": 10**9}):
            with pytest.raises(InputError):
                pool_size.plan_pool_size(handle, **wrong)


def test_pooler_settings(server: Server) -> None:
    with server.handle() as handle:
        settings = pool_size.pooler_settings(handle, clients=200, reserve=1).set_index("setting")["value"]
        assert (settings["max_db_connections"], settings["default_pool_size"]) == (
            str(SLOTS - 3 - 1),
            str((SLOTS - 4) // 2),
        )
        assert settings["max_client_conn"] == "200"
        with pytest.raises(InputError):
            pool_size.pooler_settings(handle, clients=0)


def test_history_by_state(env: Environment) -> None:
    history = pools.connections_history(env.prometheus, "1h")
    assert {"all", "idle"} <= set(history["state"])
    assert history["value"].between(0, 1).all()
    charts.timeline(history, env.limits.monitoring.database_connections)


# --- a real PgBouncer ---------------------------------------------------------------------------------------------


@pytest.fixture
def pooled(env: Environment, sandbox: dict[str, Any]) -> Environment:
    if "pooler" not in sandbox["parts"]:
        pytest.skip("no PgBouncer found")
    return env


def test_the_pooler_answers(pooled: Environment) -> None:
    finding = reachability.check_reachable(reachability.pooler(pooled.pooler), pooled.limits.database.pooler_reachable)
    assert finding.status is Status.OK
    assert "PgBouncer" in reachability.pooler(pooled.pooler)["detail"].iloc[0]


def test_clients_that_wait_for_the_pool(pooled: Environment, sandbox: dict[str, Any]) -> None:
    proxy = pooled.settings.database.proxy if pooled.settings.database else None
    assert proxy is not None
    secret = f"{sandbox['overlay']['sandbox']['folder']}/secrets/app.password"
    with open(secret) as file:
        password = file.read().strip()

    def client(name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=proxy.host, port=proxy.port, dbname="xai_blockchain", user="xai_app", password=password,
            application_name=name, prepare_threshold=None,
        )  # fmt: skip

    before = pools.check_pool_waiting(pools.pool_status(pooled.pooler), pooled.limits.database.pool_waiting)
    assert before.status is Status.OK
    with ExitStack() as clients:
        for _ in range(pgbouncer.POOL_SIZE):
            clients.enter_context(client("busy")).execute("SELECT 1")  # its transaction stays open
        waiter = client("waiter")
        clients.callback(waiter.close)
        waiter.pgconn.send_query(b"SELECT 1")
        end = time.monotonic() + 20
        while True:
            status = pools.pool_status(pooled.pooler)
            found = pools.check_pool_waiting(status, pooled.limits.database.pool_waiting)
            if found.status is Status.ALERT or time.monotonic() > end:
                break
            time.sleep(0.1)
        own = database.readiness(pooled.database.through_proxy())
    (row,) = status[status["role"] == "xai_app"].to_dict("records")
    assert found.targets == ("xai_blockchain as xai_app",)
    assert (row["clients_waiting_count"], row["servers_active_count"]) == (1, pgbouncer.POOL_SIZE)
    assert row["longest_wait_seconds"] > 1 and row["mode"] == "transaction"
    assert row["pool_size_count"] == pgbouncer.POOL_SIZE
    assert own["can_query"].iloc[0], "another role has a pool of its own"


def test_a_condition_on_the_pools_is_evaluated(pooled: Environment) -> None:
    condition = Condition.of(pools.pool_status, column="clients_waiting_count", comparison="<=", value="1000")
    fulfilled, rows = holds(pooled, condition)
    assert fulfilled and {"database", "pool_size_count"} <= set(rows[0])


def test_queries_through_the_proxy_leave_no_settings_behind(pooled: Environment) -> None:
    """The server session is reused by other clients, so our settings last for one transaction."""
    proxied = pooled.database.through_proxy()
    assert proxied.proxied and not pooled.database.proxied
    reached = reachability.check_reachable(reachability.database(proxied), pooled.limits.database.proxy_reachable)
    assert reached.status is Status.OK
    assert proxied.identity() == pooled.database.identity()
    settings = proxied.frame("server_settings").set_index("name")
    assert settings["value"]["statement_timeout"] == "5000"
    database_settings = pooled.settings.database
    assert database_settings is not None and database_settings.password is not None
    proxy = database_settings.proxy
    assert proxy is not None
    with psycopg.connect(
        host=proxy.host, port=proxy.port, dbname=database_settings.dbname, user=database_settings.user,
        password=database_settings.password.reveal(), autocommit=True, prepare_threshold=None,
    ) as next_client:  # fmt: skip
        row = next_client.execute("SELECT current_setting('statement_timeout'), current_setting('search_path')")
        assert row.fetchone() == ("0", '"$user", public')


def test_changes_never_go_through_a_proxy(pooled: Environment) -> None:
    plan = database.terminate(pooled.database.through_proxy(), pids=[1])
    assert "E24" in plan.refused and not plan.steps
    assert "E24" in database.cancel(pooled.database.through_proxy(), pids=[1]).refused


def test_a_proxy_that_is_not_configured(server: Server) -> None:
    with server.handle() as handle, pytest.raises(NotConfigured, match=r"database\.proxy"):
        handle.through_proxy()
