"""The running sandbox that tests share: real servers, started once a session, taken down at its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.environment import Environment, connect

# what is set on the machine that runs the tests must not choose what they ask
for _name in [
    name
    for name in os.environ
    if name.startswith("XAI_RUNBOOK_")
    and name not in ("XAI_RUNBOOK_SYSTEM_PROGRAMS", "XAI_RUNBOOK_FETCH", "XAI_RUNBOOK_PERSON")
]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The state of a running sandbox, which `connect("sandbox")` and child processes find by XAI_RUNBOOK_SANDBOX.

    Tests that break things start one of their own.
    """
    from xai_runbook import sandbox

    folder = tmp_path_factory.mktemp("sandbox")
    before = os.environ.get("XAI_RUNBOOK_SANDBOX")
    os.environ["XAI_RUNBOOK_SANDBOX"] = str(folder)
    try:
        yield sandbox.up(folder)
    finally:
        sandbox.down(folder)
        os.environ.pop("XAI_RUNBOOK_SANDBOX")
        if before is not None:
            os.environ["XAI_RUNBOOK_SANDBOX"] = before


@pytest.fixture(scope="session")
def env(sandbox: dict[str, Any]) -> Environment:
    """The environment of the shared sandbox."""
    return connect("sandbox")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout."""
    return Path(__file__).resolve().parent.parent
