"""The runbook's alert table, row by row: its limits, and their findings on live data."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from xai_runbook.environment import Environment
from xai_runbook.errors import NoData
from xai_runbook.model.findings import Finding, Limit, Status
from xai_runbook.operations.monitoring import alert_evaluation, metrics
from xai_runbook.settings import loading

# from the runbook: threshold, direction, severity, and duration if it has one
ROWS = {
    "cpu_used": (0.80, "above", "critical", "5m"),
    "disk_free": (0.10, "below", "critical", None),
    "memory_used": (0.85, "above", "high", None),
    "api_errors": (0.01, "above", "high", None),
    "database_connections": (0.80, "above", "high", None),
    "peer_count": (3, "below", "medium", None),
    "block_growth": (1, "below", "high", "30m"),
    "sync_lag": (10, "above", "medium", None),
}


@pytest.mark.parametrize(("name", "row"), ROWS.items(), ids=ROWS)
def test_the_limit_matches_the_runbook(name: str, row: tuple[float, str, str, str | None]) -> None:
    limit = loading.shipped().limits.by_name[name]
    threshold, direction, severity, duration = row
    assert (limit.threshold, limit.direction, limit.severity) == (threshold, direction, severity)
    assert duration in (None, limit.duration)


def until(status: Status, ask: Callable[[], Finding]) -> Finding:
    """Return the finding once it has the status, else the last one."""
    end = time.monotonic() + 45
    while True:
        with suppress(NoData):  # a rate has no value before its second scrape
            finding = ask()
            if finding.status is status or time.monotonic() > end:
                return finding
        assert time.monotonic() < end, "no data to judge"
        time.sleep(0.5)


@pytest.mark.parametrize(
    "name",
    [
        "cpu_used", "disk_free", "memory_used", "api_errors", "database_connections", "peer_count", "block_growth",
        "sync_lag",
    ],
)  # fmt: skip
def test_the_limit_is_ok_on_a_healthy_sandbox_and_alerts_when_exceeded(env: Environment, name: str) -> None:
    limit = env.limits.by_name[name]
    # a limit that the same data is past; of errors there are none, and no share of errors is below 0
    direction = "below" if name == "api_errors" else limit.direction
    least, most = (0.0, 1.0) if limit.unit == "ratio" else (-1e6, 1e6)
    past = replace(limit, threshold=most if direction == "below" else least, direction=direction, duration="2s")

    def ask(judged_by: Limit) -> Finding:
        return alert_evaluation.check_alert(metrics.signal(env.prometheus, limit), judged_by)

    assert until(Status.OK, lambda: ask(limit)).status is Status.OK
    finding = until(Status.ALERT, lambda: ask(past))
    assert (finding.name, finding.status, finding.severity) == (name, Status.ALERT, limit.severity)
    assert finding.targets
