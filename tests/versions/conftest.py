"""The table of `make torture-postgres`: what was asked or changed, by server version."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

TABLE = pytest.StashKey[dict[str, dict[int, str]]]()
WHY = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE], config.stash[WHY] = {}, []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody is there: standard input is a terminal."""
    typing, slave = os.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield
    os.close(typing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    versions = sorted({version for row in table.values() for version in row})
    if not versions:
        return
    terminalreporter.section("PostgreSQL versions")
    width = max(len(name) for name in table)
    terminalreporter.write_line(f"{'':{width}}  " + "  ".join(f"{version:>8}" for version in versions))
    for name, row in table.items():
        terminalreporter.write_line(f"{name:{width}}  " + "  ".join(f"{row.get(v, '-'):>8}" for v in versions))
    for line in config.stash[WHY]:
        terminalreporter.write_line(line)
