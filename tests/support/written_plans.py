"""Plans written by hand, for tests that need no server."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from xai_runbook.model.plans import Condition, Plan, Risk, Sql
from xai_runbook.system import clock

FIELDS: dict[str, Any] = {
    "verb": "terminate",
    "scope": "xai_blockchain",
    "targets": ("session 17 of xai_app (worker)",),
    "observed": ({"pid": "17", "backend_start": "2026-01-01T00:00:00.000001+00:00", "state": None},),
    "steps": (Sql(name="terminate_session", parameters={"pid": "17"}, equivalent="psql"),),
    "expected": Condition(
        query="database.remaining_sessions", arguments={"sessions": ["17"]},
        column="left_count", comparison="==", value="0", within="5s",
    ),
    "undo": "cannot be undone",
    "risk": Risk.DESTRUCTIVE,
    "note": "a note",
    "parts": {"database 1@here:5432/5": "change", "server 1@here:5432": "read"},
    "change": "database.terminate",
    "arguments": {"pids": [17]},
    "environment": "sandbox",
    "version": "0",
}  # fmt: skip


def written(**fields: Any) -> Plan:
    """Return a plan created just now, with these fields and otherwise valid values."""
    now = datetime.now(UTC)
    made = {
        "created_at": now.isoformat(timespec="microseconds"),
        "expires_at": (now + timedelta(minutes=10)).isoformat(timespec="microseconds"),
        "boot": clock.boot_stamp(),
    }
    return Plan(**{**FIELDS, **made, **fields})


def made(ago: float = 0.0, *, monotonic_ago: float | None = None) -> dict[str, str]:
    """Return the creation times of a plan made so many seconds ago by the wall clock and by the monotonic clock."""
    created = datetime.now(UTC) - timedelta(seconds=ago)
    boot_id = clock.boot_stamp().split()[0]
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - (ago if monotonic_ago is None else monotonic_ago)
    return {
        "created_at": created.isoformat(timespec="microseconds"),
        "expires_at": (created + timedelta(minutes=10)).isoformat(timespec="microseconds"),
        "boot": f"{boot_id} {seconds:.3f}",
    }


def is_root() -> bool:
    """Return whether the tests run as root."""
    return os.geteuid() == 0
