"""What PromQL is made of in an environment: names of metrics, windows, signals; and what rules carry beside them."""

from __future__ import annotations

import re

from pydantic import model_validator

from xai_runbook.settings.limits import Metrics, Signals, Windows
from xai_runbook.settings.types import MisplacedKey, Model, Url

EXPORTERS = {"node_": "node-exporter", "pg_": "postgres-exporter"}
"""The sandbox's exporters, by how the names of their metrics begin."""


class Rules(Model):
    """What alerting rules carry beside the table of limits."""

    runbook_url: Url = "http://localhost:8888/lab/tree/notebooks"
    """Where an alert's link leads: the folder in which JupyterLab has the notebooks."""


class PromqlSettings(Model):
    """All that a handle needs to know to write PromQL and rules."""

    windows: Windows
    metrics: Metrics
    signals: Signals
    rules: Rules = Rules()

    @model_validator(mode="after")
    def _signals_name_what_exists(self) -> PromqlSettings:
        for key in Signals.model_fields:
            self.promql(key)
        return self

    @property
    def words(self) -> dict[str, str]:
        """What ${...} in PromQL may name: this environment's metrics, and its windows as name_window."""
        return self.metrics.model_dump() | {f"{key}_window": text for key, text in self.windows.model_dump().items()}

    def promql(self, name: str) -> str:
        """The PromQL of a limit's signal, with this environment's metric names and windows filled in."""
        words = self.words

        def word(match: re.Match[str]) -> str:
            if match[1] not in words:
                raise MisplacedKey(f"names ${{{match[1]}}}, which is neither a metric nor a window", "signals", name)
            return str(words[match[1]])

        return re.sub(r"\$\{(\w+)\}", word, getattr(self.signals, name)).strip()
