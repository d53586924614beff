"""Make this process die with its parent (PR_SET_PDEATHSIG)."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

PARENT_VARIABLE = "XAI_RUNBOOK_PARENT"
"""Environment variable with the parent's pid: a child that starts late can see that its parent is already gone."""

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """Have Linux kill this process when the thread that started it ends; exit now if `parent` is already gone.

    `parent` defaults to $XAI_RUNBOOK_PARENT. A program that this process executes inherits the setting.
    """
    with suppress(OSError, AttributeError):  # not Linux: the parent ends its children itself where it can
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    expected = os.environ.get(PARENT_VARIABLE) if parent is None else str(parent)
    if expected is not None and expected != str(os.getppid()):
        os._exit(1)
