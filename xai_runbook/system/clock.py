"""Whether the wall clock can be believed: it is held against the monotonic one of the same boot."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

MOST_DRIFT_SECONDS = 5.0


def boot() -> str:
    """ "BOOT_ID SECONDS": which boot this is, and the seconds since it, suspended time included."""
    return f"{_boot_id()} {time.clock_gettime(time.CLOCK_BOOTTIME):.3f}"


def moved(created_at: datetime, boot_then: str) -> float:
    """By how many seconds the wall clock has been set since then; 0 where another boot leaves nothing to compare."""
    boot_id, _, seconds = boot_then.rpartition(" ")
    if boot_id != _boot_id():
        return 0.0
    passed = time.clock_gettime(time.CLOCK_BOOTTIME) - float(seconds)
    return (datetime.now(UTC) - created_at).total_seconds() - passed


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
