"""Who holds connections, for how long, and how many a pool may have: on real PostgreSQL and a real PgBouncer."""

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

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL to be found")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("pools")) as started:
        yield started


# --- the server's own numbers -----------------------------------------------------------------------------------


def test_connections_by_state(server: Server) -> None:
    with ExitStack() as open_now, server.handle() as handle, server.session("app", "two"):
        one = open_now.enter_context(server.session("app", "one"))
        open_now.enter_context(one.transaction())
        one.execute("SELECT 1")
        told = pools.connections_by_state(handle)
    counts = {(row["role"], row["state"]): row["session_count"] for row in told.to_dict("records")}
    assert counts["xai_app", "idle"] == 1
    assert counts["xai_app", "idle in transaction"] == 1
    assert told["database"].notna().all(), "the nameless row is PostgreSQL's own processes (E68)"


def test_leaks_are_named_by_who_opened_them(server: Server, env: Environment) -> None:
    limit = env.limits.database.idle_sessions.__class__(
        **{**env.limits.database.idle_sessions.__dict__, "threshold": 3, "duration": "0s"}
    )
    with ExitStack() as sessions, server.handle() as handle:
        quiet = pools.check_connection_leaks(pools.connection_leaks(handle, idle_for="0s"), limit)
        for _ in range(4):
            sessions.enter_context(server.session("app", "leaky")).execute("SELECT 1")
        sessions.enter_context(server.session("app", "")).execute("SELECT 1")
        time.sleep(0.3)
        told = pools.connection_leaks(handle, idle_for="200ms")
        fresh = pools.connection_leaks(handle, idle_for="1h")
    assert quiet.status is Status.OK
    (row,) = told[told["application_name"] == "leaky"].to_dict("records")
    assert (row["session_count"], row["idle_count"], row["opened_last_hour_count"]) == (4, 4, 4)
    assert row["longest_idle_seconds"] >= 0.2
    assert fresh["idle_count"].sum() == 0, "what was used within the hour is not forgotten"
    finding = pools.check_connection_leaks(told, limit)
    assert (finding.status, finding.targets) == (Status.ALERT, ("leaky as xai_app from 127.0.0.1",))
    assert "4 opened within the hour" in finding.summary
    assert "unnamed as xai_app from 127.0.0.1" in list(told["target"])


def test_nobody_but_us_leaks_nothing(env: Environment) -> None:
    """Who does not see the others is refused before; so no rows are nobody."""
    nobody = pd.DataFrame({"target": [], "idle_count": [], "opened_last_hour_count": []})
    assert pools.check_connection_leaks(nobody, env.limits.database.idle_sessions).status is Status.OK


# --- watching ---------------------------------------------------------------------------------------------------


def test_a_watch_uses_one_connection_and_ends(server: Server) -> None:
    shown: list[int] = []
    with server.handle() as handle:
        started = time.monotonic()
        told = pools.watch_connections(
            handle, every="100ms", lasting="1s", shown=lambda looks: shown.append(len(looks))
        )
        assert time.monotonic() - started < stretched(5)
        assert len(server.backends()) == 1
    assert len(told) >= 2 and shown == list(range(1, len(told) + 1))
    assert (told["usable_count"] == SLOTS - 3).all() and (told["error"] == "").all()
    assert told["at"].dt.tz is not None and told["at"].is_monotonic_increasing
    assert (told["used_ratio"] * told["usable_count"] == told["used_count"]).all()


def test_a_watch_goes_on_when_no_client_gets_in(server: Server) -> None:
    """E37: it has its connection before the slots run out, and sees them run out."""
    with server.handle() as handle, ExitStack() as sessions:
        pools.watch_connections(handle, every="100ms", lasting="0s")
        with suppress(psycopg.OperationalError):
            for _ in range(SLOTS + 1):
                sessions.enter_context(server.session("app"))
        told = pools.watch_connections(handle, every="100ms", lasting="0s")
    assert told["used_ratio"].iloc[-1] == 1


def test_a_look_that_failed_is_a_row_that_says_why(server: Server) -> None:
    with server.handle() as handle:
        pools.watch_connections(handle, every="100ms", lasting="0s")
        server.stop()
        try:
            told = pools.watch_connections(handle, every="100ms", lasting="100ms")
        finally:
            server.start()
        assert "refused" in told["error"].iloc[0]
        assert told["used_count"].isna().all() and told["at"].notna().all()
        charts.live()(told)  # outside a notebook it draws nothing


def test_a_watch_interrupted_in_its_first_look_returns_no_rows() -> None:
    class Interrupted:
        def rows(self, *_: object) -> list[dict[str, object]]:
            raise KeyboardInterrupt

    watched = pools.watch_connections(Interrupted(), every="100ms", lasting="1s")  # type: ignore[arg-type]
    assert watched.empty and "used_ratio" in watched.columns


def test_a_watch_that_would_not_end_is_refused(server: Server) -> None:
    with server.handle() as handle:
        for every, lasting in (("0s", "1m"), ("5s", "2h"), ("-5s", "1m")):
            with pytest.raises(InputError):
                pools.watch_connections(handle, every=every, lasting=lasting)


# --- how large a pool may be ------------------------------------------------------------------------------------


def test_the_sum_that_the_runbook_leaves_out(server: Server) -> None:
    with server.handle() as handle:
        told = pool_size.plan_pool_size(handle, pool_size=2, processes=2, max_overflow=1, reserve=1)
        sums = told.set_index("term")["connection_count"]
        assert sums["usable"] == SLOTS - 3
        assert sums["left"] == sums["usable"] - 1 + sums["others now"] - 6
        assert sums["largest that fits"] == 3
        told = pool_size.plan_pool_size(handle)  # the runbook's 100
        assert told.set_index("term")["connection_count"]["left"] < 0
        assert "does not fit" in told.set_index("term")["why"]["left"]
        for wrong in ({"pool_size": 0}, {"processes": -1}, {"reserve": True}, {"pool_size": 10**9}):
            with pytest.raises(InputError):
                pool_size.plan_pool_size(handle, **wrong)


def test_what_a_pooler_would_be_told(server: Server) -> None:
    with server.handle() as handle:
        told = pool_size.pooler_settings(handle, clients=200, reserve=1).set_index("setting")["value"]
        assert (told["max_db_connections"], told["default_pool_size"]) == (str(SLOTS - 3 - 1), str((SLOTS - 4) // 2))
        assert told["max_client_conn"] == "200"
        with pytest.raises(InputError):
            pool_size.pooler_settings(handle, clients=0)


def test_history_by_state(env: Environment) -> None:
    told = pools.connections_history(env.prometheus, "1h")
    assert {"all", "idle"} <= set(told["state"])
    assert told["value"].between(0, 1).all()
    charts.timeline(told, env.limits.monitoring.database_connections)


# --- a real PgBouncer ---------------------------------------------------------------------------------------------


@pytest.fixture
def pooled(env: Environment, sandbox: dict[str, Any]) -> Environment:
    if "pooler" not in sandbox["parts"]:
        pytest.skip("no PgBouncer to be found")
    return env


def test_the_pooler_answers(pooled: Environment) -> None:
    finding = reachability.check_reachable(reachability.pooler(pooled.pooler), pooled.limits.database.pooler_reachable)
    assert finding.status is Status.OK
    assert "PgBouncer" in reachability.pooler(pooled.pooler)["detail"].iloc[0]


def test_a_pool_with_nobody_waiting_and_one_with(pooled: Environment, sandbox: dict[str, Any]) -> None:
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
            clients.enter_context(client("busy")).execute("SELECT 1")  # and its transaction stays open
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
    told = Condition.of(pools.pool_status, column="clients_waiting_count", comparison="<=", value="1000")
    fulfilled, rows = holds(pooled, told)
    assert fulfilled and {"database", "pool_size_count"} <= set(rows[0])


def test_questions_go_through_the_proxy_and_leave_no_trace(pooled: Environment) -> None:
    """A pooled session is the next client's: what we tell it holds for our transaction alone."""
    proxied = pooled.database.through_proxy()
    assert proxied.proxied and not pooled.database.proxied
    reached = reachability.check_reachable(reachability.database(proxied), pooled.limits.database.proxy_reachable)
    assert reached.status is Status.OK
    assert proxied.identity() == pooled.database.identity()
    told = proxied.frame("server_settings").set_index("name")
    assert told["value"]["statement_timeout"] == "5000"
    where, proxy = pooled.settings.database, pooled.settings.database.proxy if pooled.settings.database else None
    assert where is not None and where.password is not None and proxy is not None
    with psycopg.connect(
        host=proxy.host, port=proxy.port, dbname=where.dbname, user=where.user, password=where.password.reveal(),
        autocommit=True, prepare_threshold=None,
    ) as next_client:  # fmt: skip
        seen = next_client.execute("SELECT current_setting('statement_timeout'), current_setting('search_path')")
        assert seen.fetchone() == ("0", '"$user", public')


def test_changes_never_go_through_a_proxy(pooled: Environment) -> None:
    plan = database.terminate(pooled.database.through_proxy(), pids=[1])
    assert "E24" in plan.refused and not plan.steps
    assert "E24" in database.cancel(pooled.database.through_proxy(), pids=[1]).refused


def test_without_a_proxy_there_is_none(server: Server) -> None:
    with server.handle() as handle, pytest.raises(NotConfigured, match=r"database\.proxy"):
        handle.through_proxy()
