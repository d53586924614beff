"""Detects a wall clock that was set, by comparing it with the monotonic clock of the same boot."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

MAX_DRIFT_SECONDS = 5.0


def boot_stamp() -> str:
    """Return "BOOT_ID SECONDS": the boot, and the seconds since it (time suspended included)."""
    return f"{_boot_id()} {time.clock_gettime(time.CLOCK_BOOTTIME):.3f}"


def wall_clock_shift(created_at: datetime, boot_then: str) -> float:
    """Return by how many seconds the wall clock was set since `created_at`; 0 after a reboot: nothing to compare.

    `boot_then` is what `boot_stamp` returned at that time.
    """
    boot_id, _, seconds = boot_then.rpartition(" ")
    if boot_id != _boot_id():
        return 0.0
    passed = time.clock_gettime(time.CLOCK_BOOTTIME) - float(seconds)
    return (datetime.now(UTC) - created_at).total_seconds() - passed


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
