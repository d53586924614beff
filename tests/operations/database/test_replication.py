"""Standbys, lag and replication slots on a real primary and standby."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from tests.support import clusters
from xai_runbook.clients.postgres.reader import Database
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError
from xai_runbook.model.findings import Status
from xai_runbook.operations.database import replication
from xai_runbook.sandbox.components import programs, standby
from xai_runbook.sandbox.components.standby import NAME
from xai_runbook.settings.loading import load

pytestmark = pytest.mark.skipif(programs.find("postgres") is None, reason="no PostgreSQL found")
LIMITS = load("sandbox").limits
EXPECTED = {"standbys": [NAME]}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[clusters.Cluster, clusters.Cluster]]:
    with clusters.pair(tmp_path_factory.mktemp("pair")) as both:
        yield both


def write(server: clusters.Cluster) -> None:
    with server.superuser() as connection:
        connection.execute("UPDATE wallets SET balance = balance WHERE address = (SELECT min(address) FROM wallets)")


def caught_up(database: Database) -> pd.DataFrame:
    """Return the standbys once the only one is streaming and has replayed everything."""

    def ready() -> list[pd.DataFrame]:
        frame = replication.standbys(database)
        return [frame] if list(frame["state"]) == ["streaming"] and list(frame["lag_bytes"]) == [0.0] else []

    (frame,) = clusters.eventually(ready)
    return frame


def test_a_healthy_pair(env: Environment) -> None:
    standbys = caught_up(env.database)
    assert list(standbys["standby"]) == [NAME]
    assert (
        replication.check_standbys(standbys, env.limits.database.standbys_connected).summary
        == f"connected, as expected: {NAME}"
    )
    assert replication.check_lag(standbys, env.limits.database.replication_lag).status is Status.OK
    role = replication.check_role(replication.recovery(env.database), env.limits.database.database_role)
    assert (role.status, role.summary) == (Status.OK, "xai_blockchain is a primary, as expected")
    slots = replication.replication_slots(env.database)
    assert slots["active"].all() and slots["retained_bytes"].notna().all()
    assert replication.check_slots(slots, env.limits.database.replication_slots).status is Status.OK


def test_a_missing_standby(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    first, second = servers
    second.stop()
    with first.handle(**EXPECTED) as database:
        clusters.eventually(lambda: not replication.standbys(database)["connected"].all())
        standbys = replication.standbys(database)
        found = replication.check_standbys(standbys, LIMITS.database.standbys_connected)
        assert (found.status, found.targets) == (Status.ALERT, (NAME,))
        behind = replication.check_lag(standbys, LIMITS.database.replication_lag)
        assert behind.status is Status.UNKNOWN and "not connected" in behind.summary
        second.start()
        standbys = replication.standbys(database)
        assert replication.check_standbys(standbys, LIMITS.database.standbys_connected).status is Status.OK


def test_an_idle_pair_has_no_lag(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    """The lag of an idle standby is not measured (NULL); it is 0 because the positions are equal."""
    with servers[0].handle(**EXPECTED) as database:
        standbys = caught_up(database)
        assert list(standbys["lag_seconds"]) == [0.0]


def test_a_paused_replay_is_a_growing_lag(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    first, second = servers
    limit = replace(LIMITS.database.replication_lag, threshold=0.3)
    with second.superuser() as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
    try:
        with first.handle(**EXPECTED) as database, second.handle(in_recovery=True) as own:
            write(first)
            found = clusters.eventually(
                lambda: (f := replication.check_lag(replication.standbys(database), limit)).status is Status.ALERT and f
            )
            assert found.targets == (NAME,) and "behind" in found.summary
            (row,) = replication.recovery(own).to_dict("records")
            assert row["replay_paused"] and row["lag_bytes"] > 0
            seen = replication.check_lag(replication.standbys(own), limit)
            assert (seen.status, seen.targets) == (Status.ALERT, ("this server",))
    finally:
        with second.superuser() as connection:
            connection.execute("SELECT pg_wal_replay_resume()")
    with first.handle() as database:
        caught_up(database)


def test_watch_lag(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    with servers[0].handle(**EXPECTED) as database:
        lags = replication.watch_lag(database, interval="200ms", duration="1s")
        assert list(lags.columns) == ["standby", "at", "value"]
        assert set(lags["standby"]) == {NAME} and len(lags) >= 3
        assert lags["at"].is_monotonic_increasing and (lags["value"].max() < 60)
        for interval, duration in (("1ms", "1s"), ("1s", "2h")):
            with pytest.raises(InputError, match="interval must be"):
                replication.watch_lag(database, interval=interval, duration=duration)


def test_a_hung_standby_has_a_growing_lag(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    """It sends no replies, so the measured lag stays the same and the time since its last reply counts."""
    first, second = servers
    with second.superuser() as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_get_wal_receiver()").fetchall()

    os.kill(rows[0][0], signal.SIGSTOP)
    try:
        write(first)
        limit = replace(LIMITS.database.replication_lag, threshold=1.0)
        with first.handle() as database:
            found = clusters.eventually(
                lambda: (f := replication.check_lag(replication.standbys(database), limit)).status is Status.ALERT and f
            )
        assert found.targets == (NAME,)
    finally:
        os.kill(rows[0][0], signal.SIGCONT)


def test_a_slot_without_standby_is_invalidated_in_the_end(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    first, _ = servers
    with first.superuser() as connection, first.handle() as database:
        connection.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        connection.execute("SELECT pg_create_physical_replication_slot('unused')")
        try:
            for _ in range(5):
                connection.execute("SELECT pg_logical_emit_message(false, 'x', 'x')")
                connection.execute("SELECT pg_switch_wal()")
            slots = replication.replication_slots(database).set_index("slot")
            assert slots.loc["forgotten", "retained_bytes"] > 4 * 4 * 2**20
            assert slots.loc["unused", "retained_bytes"] == 0
            found = replication.check_slots(
                slots.reset_index(), replace(LIMITS.database.replication_slots, threshold=2.0**24)
            )
            assert (found.status, found.targets) == (Status.ALERT, ("forgotten",))
            connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '4MB'")
            connection.execute("SELECT pg_reload_conf()")
            clusters.eventually(lambda: connection.execute("SHOW max_slot_wal_keep_size").fetchone() == ("4MB",))
            connection.execute("CHECKPOINT")
            slots = replication.replication_slots(database)
            found = replication.check_slots(slots, LIMITS.database.replication_slots)
            assert found.status is Status.ALERT
            assert found.targets == ("forgotten",)
            assert "forgotten is invalid: " in found.summary
        finally:
            connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            connection.execute("SELECT pg_reload_conf()")
            for slot in ("forgotten", "unused"):
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])


def test_a_standby_where_a_primary_is_expected(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    first, second = servers
    with second.handle() as database:
        found = replication.check_role(replication.recovery(database), LIMITS.database.database_role)
        assert found.status is Status.ALERT
        assert found.summary == "xai_blockchain is a standby (read-only), but the settings expect a primary"
    with second.handle(in_recovery=True) as database:
        assert replication.check_role(replication.recovery(database), LIMITS.database.database_role).status is Status.OK
        standbys = caught_up(database)
        assert list(standbys["standby"]) == ["this server"]
        assert (
            replication.check_lag(replication.standbys(database), LIMITS.database.replication_lag).status is Status.OK
        )
        assert replication.replication_slots(database).empty
        assert replication.check_standbys(standbys, LIMITS.database.standbys_connected).status is Status.OK
    with first.handle(in_recovery=True) as database:
        assert (
            replication.check_role(replication.recovery(database), LIMITS.database.database_role).status is Status.ALERT
        )


def test_lag_is_unknown_without_pg_monitor(servers: tuple[clusters.Cluster, clusters.Cluster]) -> None:
    """Any role sees which standbys are connected; the rest needs pg_monitor, which the message names."""
    first, _ = servers
    with first.superuser() as connection:
        connection.execute("REVOKE pg_monitor FROM xai_monitor")
    try:
        with first.handle(**EXPECTED) as database:
            standbys = replication.standbys(database)
        assert replication.check_standbys(standbys, LIMITS.database.standbys_connected).status is Status.OK
        found = replication.check_lag(standbys, LIMITS.database.replication_lag)
        assert found.status is Status.UNKNOWN and "GRANT pg_monitor" in found.summary
    finally:
        with first.superuser() as connection:
            connection.execute("GRANT pg_monitor TO xai_monitor")


def frame(**row: Any) -> pd.DataFrame:
    usual = {"standby": "a", "expected": True, "connected": 1.0, "lag_seconds": float("nan"), "error": ""}
    return pd.DataFrame([usual | row])


def test_no_standby_expected_and_none_connected() -> None:
    none = frame().iloc[:0]
    found = replication.check_standbys(none, LIMITS.database.standbys_connected)
    assert (found.status, found.summary) == (Status.OK, "the settings expect no standby, and none is connected")
    found = replication.check_lag(none, LIMITS.database.replication_lag)
    assert (found.status, found.summary) == (Status.OK, "no standby is expected, and none is connected")


def test_an_unexpected_standby_is_named() -> None:
    found = replication.check_standbys(frame(expected=False), LIMITS.database.standbys_connected)
    assert (found.status, found.summary) == (
        Status.OK, "the settings expect no standby; connected but not expected: a",
    )  # fmt: skip


def test_an_unknown_lag() -> None:
    found = replication.check_lag(
        frame(error="it is in state catchup, not yet up to date"), LIMITS.database.replication_lag
    )
    assert found.status is Status.UNKNOWN and "catchup" in found.summary


def test_the_password_of_the_sandbox_standby_is_in_no_argument(
    servers: tuple[clusters.Cluster, clusters.Cluster],
) -> None:
    _, second = servers
    password = second.layout.role("operator").password()
    assert password not in " ".join(second.part.argv)
    assert password not in (second.data / "postgresql.auto.conf").read_text()
    assert (second.layout.folder / "secrets" / "standby.pgpass").stat().st_mode & 0o077 == 0
    assert standby.folder(second.layout) == second.data
