"""Fixtures of tests of changes: a terminal, sessions to end, and a journal for each test."""

from __future__ import annotations

import pytest

from tests.support.changing import TORTURED, here, journal, nowhere, sandbox, session, terminal

__all__ = ["here", "journal", "nowhere", "sandbox", "session", "terminal"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the result of the crash test last, after pytest's own output: the last line of `make torture`."""
    if TORTURED in config.stash:
        print(config.stash[TORTURED])
