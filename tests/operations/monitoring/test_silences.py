"""Silences within a window, from a real Alertmanager, including ended ones; none without an Alertmanager."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from tests.support import alertmanager_server, prometheus_server
from xai_runbook.clients.alertmanager import Alertmanager
from xai_runbook.environment import NotConfiguredHandle
from xai_runbook.errors import Unreachable
from xai_runbook.model.window import Window
from xai_runbook.operations.monitoring import silences


def test_silences_of_a_window_include_ended_ones(tmp_path: Path) -> None:
    limits = prometheus_server.settings().limits
    with alertmanager_server.running(tmp_path) as url:
        ended = alertmanager_server.silence(url, 3600, alertname="SyncLag")
        lasting = alertmanager_server.silence(url, 3600, severity="high", instance="node-1")
        foreign = alertmanager_server.silence(url, 3600, alertname="SomebodyElses")
        time.sleep(1.1)  # one that has lasted no time at all is of no window
        alertmanager_server.expire(url, ended)
        history = silences.silence_history(alertmanager_server.handle(url), limits, "1h").set_index("silence")
        assert set(history.index) == {ended, lasting, foreign}
        assert history.loc[ended, "hides"] == ["SyncLag"]
        assert "BlockHeightStalled" in history.loc[lasting, "hides"] and "SyncLag" not in history.loc[lasting, "hides"]
        assert history.loc[foreign, "hides"] == []
        first = history["starts_at"].min()
        before = Window(first - timedelta(hours=1), first)
        assert silences.silence_history(alertmanager_server.handle(url), limits, before).empty
    with pytest.raises(Unreachable):  # configured and silent is not "nothing was silenced"
        silences.silence_history(alertmanager_server.handle(url), limits, "1h")


def test_without_an_alertmanager_nothing_could_be_silenced() -> None:
    absent = cast("Alertmanager", NotConfiguredHandle("alertmanager", "test", production=False))
    history = silences.silence_history(absent, prometheus_server.settings().limits, "1h")
    assert history.empty and list(history.columns) == ["silence", "hides", "by", "why", "starts_at", "ends_at"]
