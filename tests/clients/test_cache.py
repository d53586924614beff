"""The cache client with a real server: INFO and its errors."""

from __future__ import annotations

from typing import Any

import pytest

from xai_runbook.clients.cache import Cache
from xai_runbook.environment import Environment
from xai_runbook.errors import SettingsError, TimedOut, Unreachable
from xai_runbook.settings import models


def handle(env: Environment, **more: Any) -> Cache:
    assert env.settings.cache is not None
    return Cache(models.CacheSettings.model_validate(env.settings.cache.model_dump() | more))


def test_info(env: Environment) -> None:
    info = env.cache.info()
    assert info["used_memory"] > 0
    assert info["role"] == "master"


def test_tls_to_a_server_without_it(env: Environment) -> None:
    with pytest.raises((Unreachable, TimedOut)):
        handle(env, tls=True, timeout="1s").info()


def test_a_missing_secret(env: Environment) -> None:
    with pytest.raises(SettingsError, match="NO_SUCH_VARIABLE_HERE"):
        handle(env, password="env:NO_SUCH_VARIABLE_HERE").info()


def test_no_such_host(env: Environment) -> None:
    with pytest.raises((Unreachable, TimedOut)):
        handle(env, host="no-such-host.invalid").info()
