"""Time limits that allow for a busy machine."""

from __future__ import annotations

import os


def stretched(seconds: float) -> float:
    """Return `seconds` multiplied by the load per CPU, at least by 1 and at most by 6."""
    return seconds * min(max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))), 6.0)
