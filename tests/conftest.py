"""The running sandbox that tests share, one a worker, and how the tests are dealt out to the workers of `make test`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.environment import Environment, connect
from xai_runbook.model.secret import write_access

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a script puts into its background
    signal.signal(signal.SIGINT, signal.default_int_handler)
# what is set on the machine that runs the tests must not choose what they ask
for _name in [
    name
    for name in os.environ
    if name.startswith("XAI_RUNBOOK_")
    and name not in ("XAI_RUNBOOK_SYSTEM_PROGRAMS", "XAI_RUNBOOK_FETCH", "XAI_RUNBOOK_PERSON")
]:
    del os.environ[_name]

LONG_FIRST = (
    "tests/changes/test_guards.py", "tests/end_to_end/", "tests/sandbox/supervisor/test_supervisor.py",
    "tests/notebooks/", "tests/sandbox/", "tests/reports/",
)  # fmt: skip
"""What begins last should be short, so that all workers end together."""
APART = ("tests/end_to_end/", "tests/notebooks/test_run_all.py", "tests/sandbox/supervisor/test_supervisor.py")
"""Dealt out test by test; the others file by file, for what a file sets up is set up once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, and what wants the machine for itself last."""

    def rank(item: pytest.Item) -> tuple[bool, int]:
        places = [n for n, start in enumerate(LONG_FIRST) if item.nodeid.startswith(start)]
        return item.get_closest_marker("quiet") is not None, min(places, default=len(LONG_FIRST))

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests often wait for a server."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Deals the tests out in the order above, each worker taking the next unit when it is through with its last."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(APART) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return Units(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of journals is the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


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
        yield sandbox.up(folder, bound=True)  # ends with this process, however that ends
    finally:
        sandbox.down(folder)
        os.environ.pop("XAI_RUNBOOK_SANDBOX")
        if before is not None:
            os.environ["XAI_RUNBOOK_SANDBOX"] = before


@pytest.fixture(scope="session")
def env(sandbox: dict[str, Any]) -> Environment:
    """The environment of the shared sandbox."""
    return connect("sandbox")


@pytest.fixture
def acting() -> Iterator[None]:
    """Write access, as while a plan is applied: for tests of single steps."""
    with write_access():
        yield


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout."""
    return Path(__file__).resolve().parent.parent
