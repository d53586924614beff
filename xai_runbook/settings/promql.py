"""Settings that PromQL and alerting rules are built from: metric names, windows, signals and links."""

from __future__ import annotations

import re

from pydantic import model_validator

from xai_runbook.settings.limits import Metrics, Signals, Windows
from xai_runbook.settings.types import InvalidKey, Model, Url

EXPORTERS = {"node_": "node-exporter", "pg_": "postgres-exporter"}
"""The sandbox's exporters, by the prefix of their metrics' names."""


class RuleSettings(Model):
    """Settings of alerting rules that are not limits."""

    runbook_url: Url = "http://localhost:8888/lab/tree/notebooks"
    """The link of an alert: JupyterLab's address of the notebooks' folder."""


class PromqlSettings(Model):
    """The settings from which PromQL and rules are written."""

    windows: Windows
    metrics: Metrics
    signals: Signals
    rules: RuleSettings = RuleSettings()

    @model_validator(mode="after")
    def _signals_name_known_variables(self) -> PromqlSettings:
        for key in Signals.model_fields:
            self.promql(key)
        return self

    @property
    def template_variables(self) -> dict[str, str]:
        """The values of ${...} in PromQL: the environment's metric names, and its windows as NAME_window."""
        return self.metrics.model_dump() | {f"{key}_window": text for key, text in self.windows.model_dump().items()}

    def promql(self, name: str) -> str:
        """Return the PromQL of a limit's signal, with the environment's metric names and windows filled in."""
        variables = self.template_variables

        def value(match: re.Match[str]) -> str:
            if match[1] not in variables:
                raise InvalidKey(f"uses ${{{match[1]}}}, which is neither a metric nor a window", "signals", name)
            return str(variables[match[1]])

        return re.sub(r"\$\{(\w+)\}", value, getattr(self.signals, name)).strip()
