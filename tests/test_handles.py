"""The handles of an environment: declared once, as its properties, and told from data by what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xai_runbook.changes.preflight import holds
from xai_runbook.environment import Environment, handles
from xai_runbook.errors import NotConfigured
from xai_runbook.model.plans import Condition, Handle
from xai_runbook.operations import reachability
from xai_runbook.operations.backups import dumps
from xai_runbook.operations.database import pools, sessions
from xai_runbook.operations.grafana import health
from xai_runbook.operations.monitoring import alert_rehearsal, scrapes
from xai_runbook.operations.troubleshooting import nodes
from xai_runbook.settings import loading
from xai_runbook.settings.models import Settings


def test_handles_are_the_annotated_properties_of_an_environment() -> None:
    assert {"prometheus", "alertmanager", "database", "pooler", "sandbox"} <= handles()
    assert not {"name", "limits", "settings", "operator"} & handles()


def everything() -> Settings:
    """The sandbox's settings with every part that it may lack declared."""
    told = loading.load("sandbox").model_dump()
    told |= {
        "alertmanager": {"url": "http://127.0.0.1:1"}, "grafana": {"url": "http://127.0.0.1:1"},
        "pooler": {"host": "127.0.0.1", "port": 1}, "cache": {"host": "127.0.0.1", "port": 1},
        "backups": {"folder": "/nonexistent"},
        "sandbox": {"folder": "/nonexistent", "quota_url": "http://127.0.0.1:1", "mark": {}},
    }  # fmt: skip
    return Settings.model_validate(told)


@pytest.mark.parametrize("name", sorted(handles()))
@pytest.mark.parametrize("declared", [True, False])
def test_every_handle_is_told_from_an_argument_by_its_value(name: str, declared: bool) -> None:
    settings = everything() if declared else loading.load("sandbox").model_copy(update={name: None})
    handle = getattr(Environment(settings), name)
    assert isinstance(handle, Handle)
    assert (handle.environment, handle.production) == (settings.name, settings.production)
    assert (type(handle).__name__ == "NotConfiguredHandle") is not declared


@pytest.mark.parametrize("value", ["database", 1, None, ["a"], {"environment": "x"}, loading.load("sandbox")], ids=type)
def test_data_is_no_handle(value: object) -> None:
    assert not isinstance(value, Handle)


QUERIES: dict[str, Callable[..., object]] = {
    "prometheus": scrapes.scrapes, "alertmanager": reachability.alertmanager, "grafana": health.dashboards,
    "nodes": nodes.sync_status, "database": sessions.connections, "pooler": pools.pool_status,
    "cache": reachability.cache, "backups": dumps.stored, "sandbox": alert_rehearsal.loads,
}  # fmt: skip


@pytest.mark.parametrize("handle", sorted(handles()))
def test_a_condition_on_a_query_of_every_handle_is_evaluated(handle: str) -> None:
    """As far as its server, that is, which is not configured here."""
    env = Environment(loading.load("sandbox").model_copy(update={handle: None}))
    with pytest.raises(NotConfigured, match=f"{handle} is not configured"):
        holds(env, Condition.of(QUERIES[handle], column="state", comparison="==", value="x"))


def test_values_that_are_missing_are_none(tmp_path: Path) -> None:
    (tmp_path / "xai_blockchain-000001.part").mkdir()
    told = {**loading.load("sandbox").model_dump(), "backups": {"folder": str(tmp_path)}}
    fulfilled, rows = holds(
        Environment(Settings.model_validate(told)),
        Condition.of(dumps.stored, column="state", comparison="==", value="unfinished"),
    )
    assert fulfilled and (rows[0]["taken_at"], rows[0]["age_seconds"], rows[0]["usable"]) == (None, None, "false")
