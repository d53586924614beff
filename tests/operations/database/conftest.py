"""The fixtures of tests/changes, for the changes of this section."""

from __future__ import annotations

from tests.support.changing import here, journal, nowhere, sandbox, session, terminal

__all__ = ["here", "journal", "nowhere", "sandbox", "session", "terminal"]
