"""What Prometheus answered, as the rows that questions are made of; nothing at all is an error and not a 0."""

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
    """What the PromQL template is now, which asks for the metric `name`. Errors: NoData where it has no series."""
    return some(prometheus, prometheus.promql(template), name, "its name in [metrics] of the settings")


def some(prometheus: Prometheus, query: str, name: str, setting: str, at: datetime | None = None) -> DataFrame:
    """What `query` is at an instant, by default now. Errors: NoData that names the setting where it has no series."""
    return existing(prometheus.instant(query, at), name, prometheus, setting)


def existing(frame: DataFrame, name: str, prometheus: Prometheus, setting: str) -> DataFrame:
    """`frame`. Errors: NoData where it is empty: Prometheus answers "success" with nothing for what does not exist.

    NotConfigured where the exporter of that metric or signal is one that the sandbox could not start.
    """
    if frame.empty:
        settings = prometheus.settings
        asked = settings.promql(name) if name in Signals.model_fields else str(getattr(settings.metrics, name, name))
        if exporter := prometheus.missing_exporter(asked):
            raise NotConfigured(f"{name} is exported by {exporter}, which could not be started", on=exporter)
        raise NoData(
            f"no series of {name} in Prometheus (not the same as 0)",
            on=prometheus.url,
            hint=f"are the targets up (`targets_up`), and is the metric's name right: {setting}",
        )
    return frame


def plain(frame: DataFrame) -> DataFrame:
    """`frame` without the metric's name, which is the same in every row."""
    return frame.drop(columns="__name__", errors="ignore")


def columns(frame: DataFrame, labels: Sequence[str], **named: str) -> DataFrame:
    """The labels as text ("" where there is no such label), and columns under their names here."""
    made = {label: frame[label].astype("str") if label in frame else "" for label in labels}
    return pd.DataFrame({**made, **{new: frame[old] for new, old in named.items()}}, index=frame.index)


def widened(prometheus: Prometheus, window: Window) -> PromqlSettings:
    """The settings with rates that look back as far as a chart's points lie apart: none falls between two points.

    Over hours at least far enough for two scrapes a minute apart, as older history may be coarse.
    """
    least = max(2 * prometheus.chart_step_seconds(window), 150.0 if window.seconds > 3600 else 0.0)
    windows = prometheus.settings.windows
    wide = {key: duration_text(max(least, duration_seconds(getattr(windows, key)))) for key in ("rate", "requests")}
    return prometheus.settings.model_copy(update={"windows": windows.model_copy(update=wide)})
