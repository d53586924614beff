"""A misspelt name is answered with the names that it resembles."""

from __future__ import annotations

from typing import Any

import pytest

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.faults.commands import command
from xai_runbook.system.suggestions import similar, suggestion


def test_similar_names_come_first_and_without_any_all_are_listed() -> None:
    assert similar("blok_growth", ["sync_lag", "block_growth"]) == ["block_growth"]
    assert suggestion("node-hugn", ["node-hung", "node-stopped"]) == "node-hung"
    assert suggestion("zzz", ["a", "b"]) == "one of a, b"


def test_a_misspelt_fault() -> None:
    supervisor: Any = None  # the name is refused first
    with pytest.raises(SandboxError) as refused:
        command(supervisor, "break", "node-stoped")
    assert refused.value.hint.startswith("node-stopped")
