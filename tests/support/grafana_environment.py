"""An environment whose Grafana is the stub (recorded shapes)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.grafana_stub import EDITOR, VIEWER, Stub
from xai_runbook.environment import Environment
from xai_runbook.settings.loading import defaults
from xai_runbook.settings.models import Settings


def environment(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, env: Environment | None = None, **grafana: Any
) -> Environment:
    """Return `env`, or an environment of defaults, with the stub as its Grafana."""
    monkeypatch.setenv("STUB_VIEWER", VIEWER)
    monkeypatch.setenv("STUB_EDITOR", EDITOR)
    settings = {
        "url": stub.url, "timeout": "2s", "auth_value": "env:STUB_VIEWER",
        "operator": {"auth_value": "env:STUB_EDITOR"}, **grafana,
    }  # fmt: skip
    if env is not None:
        return Environment(Settings.model_validate({**env.settings.model_dump(), "grafana": settings}))
    return Environment(Settings.model_validate({**defaults(), "name": "test", "grafana": settings}))
