"""A Prometheus server, read over its HTTP API; versions 2 and 3."""

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

    from xai_runbook.settings.models import PrometheusSettings as Access
    from xai_runbook.settings.promql import PromqlSettings

MOST_POINTS = 11_000
"""What Prometheus answers for one series at once; longer windows are asked for in pieces."""
CHART_POINTS = 500
_ERRORS = (400, 422, 500, 503)
_NOT_ONE = "is it a Prometheus of version 2 or 3?"
_HINT = "9091 is normally the Pushgateway's port; Prometheus itself listens on 9090"


def quoted(text: str) -> str:
    """`text` as a PromQL string literal, whatever is in it.

    >>> print(quoted('node "1"'))
    "node \\"1\\""
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return '"' + escaped + '"'


class Prometheus:
    """One server, which is asked what it is before it is believed; nothing but GET is sent to it."""

    def __init__(
        self,
        access: Access,
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
        self._silence: TimedOut | None = None
        self._silent_until = 0.0
        self._identifying = threading.Lock()
        self._get: Callable[..., HttpAnswer] = get

    def ask_once(self) -> None:
        """From here on the same question is sent once: for a run of some seconds, whose questions overlap."""
        self._get = RequestCache().get

    def identity(self) -> dict[str, str]:
        """Where it is."""
        return {"url": self.url}

    @property
    def url(self) -> str:
        """Where it is."""
        return self.access.url

    @property
    def version(self) -> str:
        """Its version, once it has proved to be a Prometheus. Errors: WrongServer; Unreachable, TimedOut ...

        A silent one is not waited for again for as long as its timeout: a dozen questions would each wait in turn.
        """
        with self._identifying:
            if not self._version:
                if self._silence is not None and time.monotonic() < self._silent_until:
                    raise TimedOut(self._silence.what, on=self._silence.on, hint=self._silence.hint)
                try:
                    self._version = str(self.buildinfo()["version"])
                except TimedOut as silence:
                    self._silence = silence
                    self._silent_until = time.monotonic() + duration_seconds(self.access.timeout)
                    raise
            return self._version

    def buildinfo(self) -> dict[str, Any]:
        """What it says it is: `version`, `revision` ... Errors: WrongServer where it is no Prometheus."""
        try:
            answer = self._get(self.access, self.url, "/api/v1/status/buildinfo", informative=(503,))
        except WrongServer as error:  # the Pushgateway does not know this path
            raise WrongServer(f"no Prometheus answers here: it {error.what}", on=self.url, hint=_HINT) from None
        if answer.status == 503:
            raise Unreachable("is not ready (HTTP 503)", on=self.url, hint="after a start it reads its log first: wait")
        try:
            data = answer.json()["data"]
            if not isinstance(data["version"], str):
                raise TypeError
        except BadAnswer as error:
            raise WrongServer(f"no Prometheus answers here: it {error.what}", on=self.url, hint=_HINT) from None
        except (KeyError, TypeError):
            words = "no Prometheus answers here: it does not say its version"
            raise WrongServer(words, on=self.url, hint=_HINT) from None
        return dict(data)

    def promql(self, template: str, **texts: str) -> str:
        """`template` with ${metric} and ${name_window} from the settings, and each of `texts` as a quoted string."""
        return Template(template).substitute(self.settings.template_variables, **{key: quoted(text) for key, text in texts.items()})

    def missing_exporter(self, promql: str) -> str:
        """The exporter that the query's metrics come from, where the sandbox could not start it; else ""."""
        asked = (name for prefix, name in EXPORTERS.items() if re.search(rf"\b{prefix}", promql))
        return next((name for name in asked if name in self._missing_exporters), "")

    def instant(self, query: str, at: datetime | None = None) -> pd.DataFrame:
        """What `query` is at one instant, by default now: one row a series.

        Columns: the labels (text, "" where a series lacks one), at (UTC), value. A label named at or value is called
        label_at, label_value. No series is an empty frame. `attrs["warnings"]` is what Prometheus warned of.
        Errors: InputError (PromQL), WrongServer, TooMuch, BadAnswer, Unreachable, TimedOut ...
        """
        parameters = {"query": query, "timeout": self.access.timeout}
        if at is not None:
            parameters["time"] = _stamp(at)
            self._kept(at, f"the instant ({at:%Y-%m-%d %H:%M:%S} UTC)")
        return samples.text_frame(self._samples("/api/v1/query", parameters))

    def range(self, query: str, window: Window, step: str | None = None) -> pd.DataFrame:
        """What `query` is on a grid over `window`; without a `step`, about 500 points that rules too are judged at.

        The grid is the multiples of the step in Unix time, so the same window gives the same points. Columns: the
        labels (categorical), at (UTC), value; a gap is an absent row, NaN and infinities are values. `attrs` has
        `warnings`, `partial` (those of them that say that some data is missing: a store or a remote read that did not
        answer), `step_seconds`, and `start` and `end`, the first and last instant of the grid.
        Errors: NoData for a window that lies before what is kept; else as for `instant`.
        """
        step_seconds = duration_seconds(step) if step else self.chart_step_seconds(window)
        if not step_seconds:
            raise InputError("a step of 0s never arrives", hint='"15s"')
        # in whole milliseconds, Prometheus' resolution: seconds as floats would drift off the grid
        step_ms = round(step_seconds * 1000)
        first_ms, last_ms = (
            math.floor(instant.timestamp() * 1000) // step_ms * step_ms for instant in (window.start, window.end)
        )
        oldest = self._kept(window.end, f"the window ({window})")
        parts = []
        for start_ms in range(first_ms, last_ms + 1, step_ms * MOST_POINTS):
            end_ms = min(last_ms, start_ms + step_ms * (MOST_POINTS - 1))
            parameters = {
                "query": query,
                "timeout": self.access.timeout,
                "step": duration_text(step_seconds),
                "start": _stamp(_instant(start_ms)),
                "end": _stamp(_instant(end_ms)),
            }
            parts.append(self._samples("/api/v1/query_range", parameters))
        told = samples.joined(parts, on=self.url, most_series=self.access.most_series)
        if len(told.at_ms) and not first_ms <= told.at_ms.min() <= told.at_ms.max() <= last_ms:
            raise BadAnswer("answers with instants that it was not asked for", on=self.url, hint=_NOT_ONE)
        frame = samples.frame(told)
        # what PromQL itself remarks on ("might not be a counter") leaves nothing out
        frame.attrs["partial"] = [text for text in told.warnings if not text.startswith("PromQL ")]
        if oldest and window.start < oldest:
            frame.attrs["warnings"].append(f"nothing before {oldest:%Y-%m-%d %H:%M} UTC: older data is not kept")
        frame.attrs.update(step_seconds=step_ms / 1000, start=_instant(first_ms), end=_instant(last_ms))
        return frame

    def chart_step_seconds(self, window: Window) -> float:
        """The rules' step, or as many of them as keep a window at CHART_POINTS."""
        step = duration_seconds(self.access.step)
        return step * max(1, math.ceil(window.seconds / CHART_POINTS / step))

    def alerts(self) -> pd.DataFrame:
        """Alerts that Prometheus' own rules hold now, pending and firing; none is an empty frame.

        Columns: alert, state, severity, labels (the others, "name=value, ..."), value, active_at (UTC), summary,
        label_set (all labels, as a dict).
        """
        columns = ["alert", "state", "severity", "labels", "value", "active_at", "summary", "label_set"]
        return self._table("/api/v1/alerts", "alerts", answers.alerts, columns)

    def alerting_rules(self) -> pd.DataFrame:
        """The alerting rules that are loaded, whatever their state; none is an empty frame.

        Columns: alert, group, query, duration_seconds, severity, health (ok, err, unknown), error, evaluated_at (UTC;
        NaT before the first time).
        """
        columns = ["alert", "group", "query", "duration_seconds", "severity", "health", "error", "evaluated_at"]
        return self._table("/api/v1/rules", "groups", answers.rules, columns, {"type": "alert"})

    def active_targets(self) -> pd.DataFrame:
        """What Prometheus means to scrape now; none is an empty frame. Empty too in the seconds after a start.

        Columns: job, instance, interval_seconds, timeout_seconds (NaN before version 2.26), error (of the last scrape),
        scraped_at (UTC; NaT before the first).
        """
        columns = ["job", "instance", "interval_seconds", "timeout_seconds", "error", "scraped_at"]
        return self._table("/api/v1/targets", "targets", answers.targets, columns, {"state": "active"})

    def own_metrics(self) -> pd.DataFrame:
        """The page on which the server tells its own metrics: since its start, and without its storage's help.

        Columns: name, labels ("name=value, ..."), value. Errors: WrongServer, AccessDenied where a proxy keeps it back.
        """
        _ = self.version
        answer = self._get(self.access, self.url, "/metrics", most_bytes=32 * 2**20)
        with self._readable("metrics"):
            return pd.DataFrame(answers.page(answer.body), columns=["name", "labels", "value"])

    def runtime(self) -> dict[str, Any]:
        """What it says of its own process: `startTime`, `reloadConfigSuccess`, `storageRetention` ..."""
        with self._readable("runtime information"):
            return dict(self.data("/api/v1/status/runtimeinfo"))

    def data(self, path: str, **parameters: str) -> Any:
        """What one path of its API answers, as it is."""
        answer = self._ask(path, parameters)
        with self._readable("data"):
            return answer.json()["data"]

    def _samples(self, path: str, parameters: Mapping[str, str]) -> samples.Samples:
        answer = self._ask(path, parameters)
        return samples.decode(answer.body, on=self.url, most_series=self.access.most_series)

    def _table(
        self,
        path: str,
        what: str,
        rows: Callable[[Any], list[Any]],
        columns: list[str],
        parameters: Mapping[str, str] = MappingProxyType({}),
    ) -> pd.DataFrame:
        """The rows that are made of the data of an answer; the column whose name ends in _at is a time."""
        answer = self._ask(path, parameters)
        with self._readable(what):
            frame = pd.DataFrame(rows(answer.json()["data"]), columns=columns)
            return answers.times(frame, next(column for column in columns if column.endswith("_at")))

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, InputError):
            raise BadAnswer(f"its answer has no {what} that can be read", on=self.url, hint=_NOT_ONE) from None

    def _ask(self, path: str, parameters: Mapping[str, str]) -> HttpAnswer:
        _ = self.version  # something else may answer "success" to anything
        answer = self._get(self.access, self.url, path, parameters, informative=_ERRORS)
        if answer.status in _ERRORS:
            raise answers.refusal(answer, self.url)
        return answer

    @cached_property
    def _retention(self) -> str:
        """How long samples are kept, such as "15d"; nothing where that is not said (by size alone, another server)."""
        try:
            kept = str(self.runtime()["storageRetention"]).partition(" ")[0]
            return kept if duration_seconds(kept) else ""
        except (AccessDenied, BadAnswer, WrongServer, TimedOut, InputError, KeyError):
            return ""

    def _kept(self, at: datetime, what: str) -> datetime | None:
        """Since when samples are kept, where that is said. Errors: NoData where `at` is before: the answer is empty."""
        kept = self._retention
        oldest = datetime.now(UTC) - timedelta(seconds=duration_seconds(kept)) if kept else None
        if oldest and at < oldest:
            since = f"({kept}: from {oldest:%Y-%m-%d %H:%M} UTC)"
            words = f"{what} lies before what Prometheus keeps: outside retention {since}"
            raise NoData(words, on=self.url, hint="a later one")
        return oldest

    def __repr__(self) -> str:
        return f"Prometheus({self.url})"


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def _stamp(at: datetime) -> str:
    if at.tzinfo is None:
        raise InputError(f"the instant {at} has no time zone", hint="2026-01-31T10:00:00Z")
    return format(at.timestamp(), ".3f")
