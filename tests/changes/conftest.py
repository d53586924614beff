"""What tests of changes stand on: a terminal, sessions to end, and a journal of their own."""

from __future__ import annotations

import pytest

from tests.support.changing import TORTURED, here, journal, nowhere, sandbox, session, terminal

__all__ = ["here", "journal", "nowhere", "sandbox", "session", "terminal"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """After everything that pytest says: what came of the crash test stands in the last line of `make torture`."""
    if TORTURED in config.stash:
        print(config.stash[TORTURED])
