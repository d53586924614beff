"""Recovers a cluster from a base backup and the archive of WAL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xai_runbook.backup.catalogue import Backup


def tried(folder: Path, backup: Backup, tools: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What came of starting the base backup."""
    raise NotImplementedError
