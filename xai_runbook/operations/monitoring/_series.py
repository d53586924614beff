"""Helpers for Prometheus query results. An empty result is an error, not a 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from xai_runbook.errors import NoData, NotConfigured
from xai_runbook.model.window import Window, duration_seconds, duration_text
from xai_runbook.settings.limits import Signals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pandas import DataFrame

    from xai_runbook.clients.prometheus.client import Prometheus
    from xai_runbook.settings.promql import PromqlSettings


def metric(prometheus: Prometheus, template: str, name: str) -> DataFrame:
    """Return the result of a PromQL template that selects the metric `name`. Errors: NoData if it is empty."""
    return some(prometheus, prometheus.promql(template), name, "its name in [metrics] of the settings")


def some(prometheus: Prometheus, query: str, name: str, setting: str, at: datetime | None = None) -> DataFrame:
    """Return the result of `query` at an instant, by default now. Errors: NoData, with `setting` in its hint."""
    return existing(prometheus.instant(query, at), name, prometheus, setting)


def existing(frame: DataFrame, name: str, prometheus: Prometheus, setting: str) -> DataFrame:
    """Return `frame`. Errors: NoData if it is empty, as Prometheus answers "success" for a metric that does not exist.

    NotConfigured if the metric or signal comes from an exporter that the sandbox could not start.
    """
    if frame.empty:
        settings = prometheus.settings
        query = settings.promql(name) if name in Signals.model_fields else str(getattr(settings.metrics, name, name))
        if exporter := prometheus.missing_exporter(query):
            raise NotConfigured(f"{name} is exported by {exporter}, which could not be started", on=exporter)
        raise NoData(
            f"no series of {name} in Prometheus (not the same as 0)",
            on=prometheus.url,
            hint=f"are the targets up (`targets_up`), and is the metric's name right: {setting}",
        )
    return frame


def plain(frame: DataFrame) -> DataFrame:
    """Return `frame` without the metric's name, which is the same in every row."""
    return frame.drop(columns="__name__", errors="ignore")


def columns(frame: DataFrame, labels: Sequence[str], **renamed: str) -> DataFrame:
    """Return the labels as text ("" where a label is missing) and other columns under new names (new="old")."""
    texts = {label: frame[label].astype("str") if label in frame else "" for label in labels}
    return pd.DataFrame({**texts, **{new: frame[old] for new, old in renamed.items()}}, index=frame.index)


def widened(prometheus: Prometheus, window: Window) -> PromqlSettings:
    """Return the settings with rate windows that are at least two chart steps wide, so that no sample is skipped.

    Over an hour, at least 150 s: two scrapes a minute apart, as older history may be coarse.
    """
    least = max(2 * prometheus.chart_step_seconds(window), 150.0 if window.seconds > 3600 else 0.0)
    windows = prometheus.settings.windows
    wide = {key: duration_text(max(least, duration_seconds(getattr(windows, key)))) for key in ("rate", "requests")}
    return prometheus.settings.model_copy(update={"windows": windows.model_copy(update=wide)})
