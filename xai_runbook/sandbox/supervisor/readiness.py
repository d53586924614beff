"""Readiness of a sandbox: Prometheus can answer every query of the health report and the dashboards.

Other parts are ready before that: the database template contains a verified backup, and the standby is ready once it
streams.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from xai_runbook import dashboards
from xai_runbook.dashboards import queries
from xai_runbook.sandbox import loopback
from xai_runbook.settings.limits import Signals
from xai_runbook.settings.loading import load
from xai_runbook.settings.promql import EXPORTERS

WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1
REQUEST_SECONDS = 5.0
MOST_NAMES = 3
"""How many pending names a progress line shows."""

SIGNALS_WITHOUT_REQUESTS = ("api_errors", "api_latency")
"""For these signals NaN is a valid answer: there were no requests."""


class PendingQueries:
    """Prometheus queries that a sandbox has not answered yet."""

    def __init__(self, url: str, missing: Mapping[str, str] | None = None) -> None:
        """Collect the queries, without those for the parts in `missing`."""
        settings = load("sandbox")
        absent = tuple(start for start, part in EXPORTERS.items() if part in (missing or {}))
        self.url = url
        self.signals: dict[str, tuple[str, float]] = {}
        self.panels: dict[str, str] = {}
        for name in Signals.model_fields:
            promql = settings.promql(name)
            if not any(start in promql for start in absent):
                self.signals[name] = promql, 2 * settings.limits.by_name[name].duration_seconds + 60
        for title in dashboards.FILES:
            dashboard = dashboards.dashboard(title, settings, settings.limits)
            for query in queries.panel_queries(dashboard, rate=settings.windows.rate, step=settings.rule_step):
                if not any(start in query.promql for start in absent):
                    self.panels[f"{title} / {query.panel}"] = query.promql
        self._rules = True
        self._first_scrapes: dict[str, str] = {}

    def unanswered(self) -> list[str]:
        """Repeat the queries without an answer so far; return the names of those that still have none.

        Until every target was scraped twice, only targets are returned: the history alone would answer the queries.
        """
        if unscraped := self._targets_not_scraped_twice():
            return [f"scrapes of {name}" for name in unscraped]
        self.signals = {name: query for name, query in self.signals.items() if not self._has_values(name, *query)}
        self.panels = {name: promql for name, promql in self.panels.items() if not self._result("query", query=promql)}
        self._rules = self._rules and not self._rules_are_evaluated()
        return [*self.signals, *self.panels, *(["rules"] if self._rules else [])]

    def _has_values(self, name: str, promql: str, seconds: float) -> bool:
        """Return whether every series that the signal had in the judged period has a value now."""
        now = math.floor(time.time())
        result = self._result("query_range", query=promql, start=now - seconds, end=now, step=1)
        newest = [series["values"][-1] for series in result]
        return bool(newest) and all(
            at == now and (value != "NaN" or name in SIGNALS_WITHOUT_REQUESTS) for at, value in newest
        )

    def _targets_not_scraped_twice(self) -> list[str]:
        unscraped = []
        for target in self._get("targets?state=active")["activeTargets"]:
            name = str(target["labels"]["instance"])
            scraped = target["lastScrape"] if target["health"] == "up" else ""
            if not scraped or self._first_scrapes.setdefault(name, scraped) == scraped:
                unscraped.append(name)
        return unscraped or ([] if self._first_scrapes else ["all targets"])

    def _rules_are_evaluated(self) -> bool:
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return bool(rules) and all(rule["health"] == "ok" for rule in rules)

    def _result(self, endpoint: str, **parameters: object) -> list[dict[str, Any]]:
        return list(self._get(f"{endpoint}?{urlencode(parameters)}")["result"])

    def _get(self, path: str) -> dict[str, Any]:
        with loopback.urlopen(f"{self.url}/api/v1/{path}", timeout=REQUEST_SECONDS) as answer:
            return dict(json.load(answer)["data"])


def wait(
    pending: PendingQueries,
    progress: Callable[[str], None],
    stopped: Callable[[], bool],
    seconds: float = WAIT_SECONDS,
) -> list[str]:
    """Poll until every query is answered, `seconds` are over or `stopped()` is true; return the names still unanswered.

    `progress` receives a line whenever these names change.
    """
    deadline = time.monotonic() + seconds
    unanswered = ["Prometheus"]
    while not stopped():
        before = unanswered
        with suppress(OSError, HTTPException, ValueError, KeyError):  # Prometheus is starting or restarting
            unanswered = pending.unanswered()
        if not unanswered:
            return []
        if unanswered != before:
            progress(f"waiting for data: {summary(unanswered)}")
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    return unanswered


def summary(names: list[str]) -> str:
    """Return the first few names and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join([*names[:MOST_NAMES], *([f"{more} more"] if more > 0 else [])])
