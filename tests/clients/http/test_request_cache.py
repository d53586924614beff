"""The requests that a run of `check` sends to Prometheus, counted by a proxy."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import tomli_w

from tests.support.prometheus_server import serving
from xai_runbook.environment import Environment
from xai_runbook.reports.check import run_questions


class Counting:
    """A proxy that records the requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str] = []

    def answer(self, path: str) -> tuple[int, str, bytes]:
        self.requests.append(path)  # one list, many threads: append is whole
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.headers["Content-Type"], refusal.read()


@pytest.mark.usefixtures("sandbox")
def test_equal_requests_to_prometheus_are_sent_once_in_a_run(
    env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run sends them again."""
    settings: dict[str, Any] = env.settings.model_dump(mode="json", exclude_none=True)
    counting = Counting(settings["prometheus"]["url"])
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    with serving(counting.answer) as url:
        tables = {name: settings[name] for name in ("limits", "metrics", "windows")}
        (tmp_path / "counted.toml").write_text(
            tomli_w.dumps({**tables, "prometheus": {**settings["prometheus"], "url": url}})
        )
        for _ in range(2):
            counting.requests.clear()
            result = run_questions("counted", seconds=60)
            assert sum(answer.finding is not None for answer in result.answers) > 20
            assert len(counting.requests) > 40
            often = {path: number for path, number in Counter(counting.requests).items() if number > 1}
            queries = {parse_qs(urlsplit(path).query)["query"][0]: number for path, number in often.items()}
            assert queries == {"time()": 3}, "a clock alone is read more than once"


def test_concurrent_equal_requests_are_sent_once(env: Environment) -> None:
    from xai_runbook.clients.prometheus.client import Prometheus

    assert env.settings.prometheus is not None
    counting = Counting(env.settings.prometheus.url)
    with serving(counting.answer) as url:
        settings = env.settings.model_copy(
            update={"prometheus": env.settings.prometheus.model_copy(update={"url": url})}
        )
        assert settings.prometheus is not None
        prometheus = Prometheus(settings.prometheus, settings.promql_settings)
        prometheus.cache_requests()
        counts: list[int] = []
        threads = [threading.Thread(target=lambda: counts.append(len(prometheus.active_targets()))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(counts) == 12 and len(set(counts)) == 1
        assert sorted(counting.requests) == ["/api/v1/status/buildinfo", "/api/v1/targets?state=active"]
