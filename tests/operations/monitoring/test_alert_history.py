"""Alerts in a past window, from a real Prometheus' history: the same two hours that promtool evaluates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from tests.support import prometheus_server as server
from tests.support.two_hours import END, STEP, stories
from xai_runbook.clients.prometheus.client import Prometheus
from xai_runbook.errors import NoData
from xai_runbook.model.findings import Severity, Status
from xai_runbook.model.window import Window
from xai_runbook.operations.monitoring import alert_evaluation, alert_history


@pytest.fixture(scope="module")
def start() -> datetime:
    return datetime.fromtimestamp((int(time.time()) - END) // 3600 * 3600, UTC)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, start: datetime) -> Iterator[Prometheus]:
    begin = int(start.timestamp())
    samples = {name: {begin + t: story(t) for t in range(0, END, STEP)} for name, story in stories(begin).items()}
    past = server.history(
        {name: {at: value for at, value in values.items() if value is not None} for name, values in samples.items()}
    )
    with server.running(tmp_path_factory.mktemp("history"), past=past) as address:
        yield server.handle(address)


def window(start: datetime, first_minute: float, last_minute: float) -> Window:
    return Window(start + timedelta(minutes=first_minute), start + timedelta(minutes=last_minute))


def minutes(start: datetime, at: object) -> float:
    assert isinstance(at, pd.Timestamp)
    return (at - start).total_seconds() / 60


def only(periods: pd.DataFrame, alert: str, target: str) -> pd.Series:
    """Return the one period in which the alert fired on the target."""
    (found,) = [
        row
        for _, row in periods[periods["fired_at"].notna()].iterrows()
        if row["alert"] == alert and row["target"] == target
    ]
    return found


def test_each_alert_of_the_window_with_its_times(prometheus: Prometheus, start: datetime) -> None:
    states = alert_history.alert_states(prometheus, server.limits(), window(start, 0, 119))
    assert states.attrs["step_seconds"] == STEP and states.attrs["silent"] == []
    periods = alert_history.alert_periods(states)
    lag = only(periods, "SyncLag", "lag-11")
    assert abs(minutes(start, lag["pending_at"]) - 30) <= 0.5
    assert lag["fired_at"] - lag["pending_at"] == timedelta(minutes=5)
    assert abs(minutes(start, lag["ended_at"]) - 50) <= 0.5
    assert (lag["limit"], lag["severity"], lag["last_value"]) == ("sync_lag", "medium", 11)
    fired = periods[periods["fired_at"].notna()]
    assert "lag-10" not in set(fired["target"]) and "short" not in set(fired["target"])
    short = periods[(periods["alert"] == "HighMemory") & (periods["target"] == "short")].iloc[0]
    assert short["ended_at"] is not pd.NaT, "pending, and never more"
    assert only(periods, "APIErrors", "failing")["ended_at"] is pd.NaT, "it still fires at the end"


def test_an_alert_active_at_the_start_of_the_window_has_its_true_start(prometheus: Prometheus, start: datetime) -> None:
    """The window begins within the alert's 30 minutes; it fires 30 minutes after its start, not after the window's."""
    states = alert_history.alert_states(prometheus, server.limits(), window(start, 50, 100))
    stalled = only(alert_history.alert_periods(states), "BlockHeightStalled", "stalled")
    assert minutes(start, stalled["pending_at"]) < 50
    assert stalled["fired_at"] - stalled["pending_at"] == timedelta(minutes=30)
    assert states["at"].min() >= pd.Timestamp(start + timedelta(minutes=50))


def test_the_finding_is_for_the_end_of_the_window(prometheus: Prometheus, start: datetime) -> None:
    limits = server.limits()
    during = alert_history.check_alert_history(alert_history.alert_states(prometheus, limits, window(start, 20, 40)))
    assert (during.status, during.severity) == (Status.ALERT, Severity.CRITICAL), "CPU and disk"
    assert {"SyncLag lag-11", "LowDisk full"} <= {target.removesuffix(" /data") for target in during.targets}
    assert during.observed_at == start + timedelta(minutes=40)
    after = alert_history.check_alert_history(alert_history.alert_states(prometheus, limits, window(start, 20, 60)))
    assert "SyncLag lag-11" not in after.targets and "fired and ended: " in after.summary


def test_a_window_before_all_data_reports_only_missing_metrics(prometheus: Prometheus, start: datetime) -> None:
    states = alert_history.alert_states(prometheus, server.limits(), window(start, -300, -240))
    assert set(states["limit"]) == {"metrics_present"}
    assert {"sync_lag", "cpu_used"} <= set(states.attrs["silent"])
    finding = alert_history.check_alert_history(states)
    assert finding.status is Status.ALERT and "no value for " in finding.summary
    assert finding.targets == ("XaiMetricsMissing blockchain_height", "XaiMetricsMissing network_peers")


def test_a_window_outside_retention_is_no_data(prometheus: Prometheus) -> None:
    with pytest.raises(NoData, match="outside retention"):
        alert_history.alert_states(prometheus, server.limits(), "2024-01-15T16:00:00Z/2024-01-15T17:00:00Z")


def judged(**columns: object) -> pd.DataFrame:
    rows = 4
    made = pd.DataFrame(
        {
            "limit": ["sync_lag"] * rows,
            "alert": ["SyncLag"] * rows,
            "severity": ["medium"] * rows,
            "target": ["node-1"] * rows,
            "at": pd.date_range("2026-01-31T10:00Z", periods=rows, freq="15s").astype("datetime64[ms, UTC]"),
            "value": [1.0] * rows,
            "state": ["inactive"] * rows,
            "active_since": pd.to_datetime([None] * rows, utc=True),
        }
    ).assign(**columns)
    made.attrs.update(step_seconds=15.0, silent=[])
    return made


def test_a_quiet_window_is_ok_and_one_without_values_is_unknown() -> None:
    finding = alert_history.check_alert_history(judged())
    assert finding.status is Status.OK
    assert finding.summary == "no alert fires at 2026-01-31 10:00:45 UTC; judged every 15s"
    gone = judged(state=["inactive"] * 3 + ["unknown"])
    finding = alert_history.check_alert_history(gone)
    assert finding.status is Status.UNKNOWN and "no value for sync_lag" in finding.summary
    silent = judged()
    silent.attrs["silent"] = ["peer_count"]
    finding = alert_history.check_alert_history(silent)
    assert finding.status is Status.UNKNOWN and "no value for peer_count" in finding.summary


def test_alerts_of_consecutive_targets_are_not_merged() -> None:
    two = pd.concat([judged(state="firing"), judged(state="firing", target="node-2")], ignore_index=True)
    two["active_since"] = two["at"]
    periods = alert_history.alert_periods(two)
    assert sorted(periods["target"]) == ["node-1", "node-2"]
    assert periods["ended_at"].isna().all()
    assert alert_history.alert_periods(judged()).empty


def test_a_long_window_is_evaluated_less_often_and_says_so(prometheus: Prometheus, start: datetime) -> None:
    long = Window(start - timedelta(days=2), start + timedelta(minutes=119))
    states = alert_history.alert_states(prometheus, server.limits(), long)
    step = states.attrs["step_seconds"]
    assert step == 2 * STEP and np.ptp(states["at"].to_numpy()) <= np.timedelta64(int(long.seconds * 1000), "ms")
    assert "judged every 30s" in alert_history.check_alert_history(states).summary
    assert set(states["state"]) <= set(alert_evaluation.STATES)
