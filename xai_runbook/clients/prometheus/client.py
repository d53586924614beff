"""Read-only client of Prometheus' HTTP API, versions 2 and 3."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

from xai_runbook.clients.http.get import HttpAnswer, get
from xai_runbook.clients.http.request_cache import RequestCache
from xai_runbook.clients.prometheus import answers, samples
from xai_runbook.errors import (
    AccessDenied,
    BadAnswer,
    InputError,
    NoData,
    TimedOut,
    Unreachable,
    WrongServer,
)
from xai_runbook.model.window import Window, duration_seconds, duration_text
from xai_runbook.settings.promql import EXPORTERS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from xai_runbook.settings.models import PrometheusSettings
    from xai_runbook.settings.promql import PromqlSettings

MAX_POINTS = 11_000
"""Prometheus' limit of points for one series in one query; longer windows are queried in pieces."""
CHART_POINTS = 500
_ERRORS = (400, 422, 500, 503)
_CHECK_VERSION = "check that it is a Prometheus of version 2 or 3"
_CHECK_PORT = "9091 is normally the Pushgateway's port; Prometheus itself listens on 9090"


def quoted(text: str) -> str:
    """Return `text` as a PromQL string literal.

    >>> print(quoted('node "1"'))
    "node \\"1\\""
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return '"' + escaped + '"'


class Prometheus:
    """One Prometheus. Only GET is sent, and first its version is read to make sure that it is one."""

    def __init__(
        self,
        access: PrometheusSettings,
        settings: PromqlSettings,
        *,
        environment: str = "",
        production: bool = False,
        missing_exporters: Collection[str] = (),
    ) -> None:
        self.access, self.settings = access, settings
        self.environment, self.production = environment, production
        self._missing_exporters = missing_exporters
        self._version = ""
        self._timeout: TimedOut | None = None
        self._retry_at = 0.0
        self._version_lock = threading.Lock()
        self._get: Callable[..., HttpAnswer] = get

    def cache_requests(self) -> None:
        """Send equal requests only once from now on. For a run of a few seconds, whose questions overlap."""
        self._get = RequestCache().get

    def identity(self) -> dict[str, str]:
        """Return its URL."""
        return {"url": self.url}

    @property
    def url(self) -> str:
        """Its URL."""
        return self.access.url

    @property
    def version(self) -> str:
        """Its version. Errors: WrongServer if it is no Prometheus; Unreachable, TimedOut ...

        After a timeout it is not asked again for as long as the timeout, else a dozen queries would wait in turn.
        """
        with self._version_lock:
            if not self._version:
                if self._timeout is not None and time.monotonic() < self._retry_at:
                    raise TimedOut(self._timeout.what, on=self._timeout.on, hint=self._timeout.hint)
                try:
                    self._version = str(self.buildinfo()["version"])
                except TimedOut as timeout:
                    self._timeout = timeout
                    self._retry_at = time.monotonic() + duration_seconds(self.access.timeout)
                    raise
            return self._version

    def buildinfo(self) -> dict[str, Any]:
        """Return its build information: `version`, `revision` ... Errors: WrongServer if it is no Prometheus."""
        try:
            answer = self._get(self.access, self.url, "/api/v1/status/buildinfo", informative=(503,))
        except WrongServer as error:  # the Pushgateway does not know this path
            raise WrongServer(f"no Prometheus answers here: it {error.what}", on=self.url, hint=_CHECK_PORT) from None
        if answer.status == 503:
            raise Unreachable("is not ready (HTTP 503)", on=self.url, hint="wait: it replays its log after a start")
        try:
            data = answer.json()["data"]
            if not isinstance(data["version"], str):
                raise TypeError
        except BadAnswer as error:
            raise WrongServer(f"no Prometheus answers here: it {error.what}", on=self.url, hint=_CHECK_PORT) from None
        except (KeyError, TypeError):
            message = "no Prometheus answers here: the answer has no version"
            raise WrongServer(message, on=self.url, hint=_CHECK_PORT) from None
        return dict(data)

    def promql(self, template: str, **texts: str) -> str:
        """Fill in ${metric} and ${name_window} from the settings, and each of `texts` as a quoted string."""
        return Template(template).substitute(
            self.settings.template_variables, **{key: quoted(text) for key, text in texts.items()}
        )

    def missing_exporter(self, promql: str) -> str:
        """Return the exporter of the query's metrics if the sandbox could not start it; else ""."""
        exporters = (name for prefix, name in EXPORTERS.items() if re.search(rf"\b{prefix}", promql))
        return next((name for name in exporters if name in self._missing_exporters), "")

    def instant(self, query: str, at: datetime | None = None) -> pd.DataFrame:
        """Evaluate a query at one instant, by default now. One row for each series.

        Columns: the labels (text, "" if a series has no such label), at (UTC), value. A label named at or value
        becomes label_at or label_value. Without series the frame is empty. `attrs["warnings"]` has Prometheus'
        warnings. Errors: InputError (PromQL), WrongServer, TooMuch, BadAnswer, Unreachable, TimedOut ...
        """
        parameters = {"query": query, "timeout": self.access.timeout}
        if at is not None:
            parameters["time"] = _timestamp(at)
            self._check_retention(at, f"the instant ({at:%Y-%m-%d %H:%M:%S} UTC)")
        return samples.text_frame(self._samples("/api/v1/query", parameters))

    def range(self, query: str, window: Window, step: str | None = None) -> pd.DataFrame:
        """Evaluate a query over a window. Without a `step`, at about 500 instants at which rules are evaluated too.

        The instants are multiples of the step in Unix time, so the same window gives the same instants. Columns: the
        labels (categorical), at (UTC), value; a gap is a missing row, NaN and infinities are values. `attrs` has
        `warnings`, `partial` (the warnings which say that data is missing, such as a remote read that failed),
        `step_seconds`, `start` and `end` (the first and the last instant).
        Errors: NoData for a window before Prometheus' retention; else as for `instant`.
        """
        step_seconds = duration_seconds(step) if step else self.chart_step_seconds(window)
        if not step_seconds:
            raise InputError("the step must be greater than 0s", hint='"15s"')
        # in milliseconds, Prometheus' resolution: float seconds would drift off the multiples of the step
        step_ms = round(step_seconds * 1000)
        first_ms, last_ms = (
            math.floor(instant.timestamp() * 1000) // step_ms * step_ms for instant in (window.start, window.end)
        )
        oldest = self._check_retention(window.end, f"the window ({window})")
        parts = []
        for start_ms in range(first_ms, last_ms + 1, step_ms * MAX_POINTS):
            end_ms = min(last_ms, start_ms + step_ms * (MAX_POINTS - 1))
            parameters = {
                "query": query,
                "timeout": self.access.timeout,
                "step": duration_text(step_seconds),
                "start": _timestamp(_instant(start_ms)),
                "end": _timestamp(_instant(end_ms)),
            }
            parts.append(self._samples("/api/v1/query_range", parameters))
        joined = samples.joined(parts, on=self.url, max_series=self.access.max_series)
        if len(joined.at_ms) and not first_ms <= joined.at_ms.min() <= joined.at_ms.max() <= last_ms:
            raise BadAnswer("the answer has instants outside the window", on=self.url, hint=_CHECK_VERSION)
        frame = samples.frame(joined)
        # PromQL's own remarks ("might not be a counter") do not mean that data is missing
        frame.attrs["partial"] = [text for text in joined.warnings if not text.startswith("PromQL ")]
        if oldest and window.start < oldest:
            frame.attrs["warnings"].append(f"no data before {oldest:%Y-%m-%d %H:%M} UTC: outside retention")
        frame.attrs.update(step_seconds=step_ms / 1000, start=_instant(first_ms), end=_instant(last_ms))
        return frame

    def chart_step_seconds(self, window: Window) -> float:
        """Return the step for a chart: the multiple of the rules' step that gives at most CHART_POINTS points."""
        step = duration_seconds(self.access.step)
        return step * max(1, math.ceil(window.seconds / CHART_POINTS / step))

    def alerts(self) -> pd.DataFrame:
        """Return the pending and firing alerts of Prometheus' own rules; an empty frame if there are none.

        Columns: alert, state, severity, labels (the others, "name=value, ..."), value, active_at (UTC), summary,
        label_set (all labels, as a dict).
        """
        columns = ["alert", "state", "severity", "labels", "value", "active_at", "summary", "label_set"]
        return self._table("/api/v1/alerts", "alerts", answers.alerts, columns)

    def alerting_rules(self) -> pd.DataFrame:
        """Return the loaded alerting rules in any state; an empty frame if there are none.

        Columns: alert, group, query, duration_seconds, severity, health (ok, err, unknown), error, evaluated_at (UTC;
        NaT before the first evaluation).
        """
        columns = ["alert", "group", "query", "duration_seconds", "severity", "health", "error", "evaluated_at"]
        return self._table("/api/v1/rules", "groups", answers.rules, columns, {"type": "alert"})

    def active_targets(self) -> pd.DataFrame:
        """Return the active scrape targets; an empty frame if there are none, and for some seconds after a start.

        Columns: job, instance, interval_seconds, timeout_seconds (NaN before version 2.26), error (of the last scrape),
        scraped_at (UTC; NaT before the first).
        """
        columns = ["job", "instance", "interval_seconds", "timeout_seconds", "error", "scraped_at"]
        return self._table("/api/v1/targets", "targets", answers.targets, columns, {"state": "active"})

    def own_metrics(self) -> pd.DataFrame:
        """Return the server's own metrics, from its page /metrics: counters since its start, read without its storage.

        Columns: name, labels ("name=value, ..."), value. Errors: WrongServer, AccessDenied if a proxy blocks the page.
        """
        _ = self.version
        answer = self._get(self.access, self.url, "/metrics", max_bytes=32 * 2**20)
        with self._readable("metrics"):
            return pd.DataFrame(answers.metrics_page(answer.body), columns=["name", "labels", "value"])

    def runtime(self) -> dict[str, Any]:
        """Return its runtime information: `startTime`, `reloadConfigSuccess`, `storageRetention` ..."""
        with self._readable("runtime information"):
            return dict(self.data("/api/v1/status/runtimeinfo"))

    def data(self, path: str, **parameters: str) -> Any:
        """Return the `data` of one path of its API."""
        answer = self._ask(path, parameters)
        with self._readable("data"):
            return answer.json()["data"]

    def _samples(self, path: str, parameters: Mapping[str, str]) -> samples.Samples:
        answer = self._ask(path, parameters)
        return samples.decode(answer.body, on=self.url, max_series=self.access.max_series)

    def _table(
        self,
        path: str,
        what: str,
        rows: Callable[[Any], list[Any]],
        columns: list[str],
        parameters: Mapping[str, str] = MappingProxyType({}),
    ) -> pd.DataFrame:
        """Return the rows of an answer as a frame; its first column that ends in _at becomes a UTC time."""
        answer = self._ask(path, parameters)
        with self._readable(what):
            frame = pd.DataFrame(rows(answer.json()["data"]), columns=columns)
            return answers.with_utc(frame, next(column for column in columns if column.endswith("_at")))

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, InputError):
            raise BadAnswer(f"the {what} in its answer cannot be read", on=self.url, hint=_CHECK_VERSION) from None

    def _ask(self, path: str, parameters: Mapping[str, str]) -> HttpAnswer:
        _ = self.version  # another server may answer any path with "success"
        answer = self._get(self.access, self.url, path, parameters, informative=_ERRORS)
        if answer.status in _ERRORS:
            raise answers.api_error(answer, self.url)
        return answer

    @cached_property
    def _retention(self) -> str:
        """Its retention, such as "15d"; "" if it is not reported (retention by size alone, another server)."""
        try:
            retention = str(self.runtime()["storageRetention"]).partition(" ")[0]
            return retention if duration_seconds(retention) else ""
        except (AccessDenied, BadAnswer, WrongServer, TimedOut, InputError, KeyError):
            return ""

    def _check_retention(self, at: datetime, what: str) -> datetime | None:
        """Return the start of the retention, if known. Errors: NoData if `at` is before it (the answer is empty)."""
        retention = self._retention
        oldest = datetime.now(UTC) - timedelta(seconds=duration_seconds(retention)) if retention else None
        if oldest and at < oldest:
            since = f"({retention}: from {oldest:%Y-%m-%d %H:%M} UTC)"
            raise NoData(f"{what} lies outside retention {since}", on=self.url, hint="a later one")
        return oldest

    def __repr__(self) -> str:
        return f"Prometheus({self.url})"


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def _timestamp(at: datetime) -> str:
    if at.tzinfo is None:
        raise InputError(f"the instant {at} has no time zone", hint="2026-01-31T10:00:00Z")
    return format(at.timestamp(), ".3f")
