"""Ending with whoever started this process, however that ended."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

PARENT = "XAI_RUNBOOK_PARENT"
"""The environment variable by which a process knows who started it, should that one be gone before it can look."""

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """Asks Linux to kill this process when the thread that started it ends; ends now if `parent` has gone already.

    Without a parent, the one that $XAI_RUNBOOK_PARENT names. A program that this process becomes inherits the request.
    """
    with suppress(OSError, AttributeError):  # not Linux: whoever started us cleans up where it can
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    known = os.environ.get(PARENT) if parent is None else str(parent)
    if known is not None and known != str(os.getppid()):
        os._exit(1)
