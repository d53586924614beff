"""How long something may take on this machine, which others may keep busy; and waiting for what comes about in time."""

from __future__ import annotations

import os


def stretched(seconds: float) -> float:
    """So many seconds where a processor is free; as many times that as processes want each one here, up to six."""
    return seconds * min(max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))), 6.0)
