"""A run of `check` and what it sends to Prometheus, counted on the way there."""

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
    """What stands in front of a server: passes everything on, and keeps what was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, str, bytes]:
        self.asked.append(path)  # one list, many threads: append is whole
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.headers["Content-Type"], refusal.read()


@pytest.mark.usefixtures("sandbox")
def test_the_same_question_is_asked_of_prometheus_once_a_run(
    env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run asks anew: what a run tells is not older than the run."""
    told: dict[str, Any] = env.settings.model_dump(mode="json", exclude_none=True)
    counting = Counting(told["prometheus"]["url"])
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    with serving(counting.answer) as url:
        tables = {name: told[name] for name in ("limits", "metrics", "windows")}
        (tmp_path / "counted.toml").write_text(
            tomli_w.dumps({**tables, "prometheus": {**told["prometheus"], "url": url}})
        )
        for _ in range(2):
            counting.asked.clear()
            result = run_questions("counted", seconds=60)
            assert sum(answer.finding is not None for answer in result.answers) > 20
            assert len(counting.asked) > 40
            often = {path: number for path, number in Counter(counting.asked).items() if number > 1}
            queries = {parse_qs(urlsplit(path).query)["query"][0]: number for path, number in often.items()}
            assert queries == {"time()": 3}, "a clock alone is read more than once"


def test_a_question_that_many_ask_at_once_is_sent_once(env: Environment) -> None:
    from xai_runbook.clients.prometheus.client import Prometheus

    assert env.settings.prometheus is not None
    counting = Counting(env.settings.prometheus.url)
    with serving(counting.answer) as url:
        settings = env.settings.model_copy(
            update={"prometheus": env.settings.prometheus.model_copy(update={"url": url})}
        )
        assert settings.prometheus is not None
        prometheus = Prometheus(settings.prometheus, settings.promql_settings)
        prometheus.ask_once()
        told: list[int] = []
        threads = [threading.Thread(target=lambda: told.append(len(prometheus.active_targets()))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(told) == 12 and len(set(told)) == 1
        assert sorted(counting.asked) == ["/api/v1/status/buildinfo", "/api/v1/targets?state=active"]
