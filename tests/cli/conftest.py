"""Fixtures of tests/changes, for the commands that plan and apply."""

from __future__ import annotations

from tests.support.changing import here, journal, nowhere, sandbox, session, terminal

__all__ = ["here", "journal", "nowhere", "sandbox", "session", "terminal"]
