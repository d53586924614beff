"""File locks. The kernel releases them when the process that holds them ends, even by SIGKILL."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take_lock(descriptor: int, *, shared: bool = False, wait_seconds: float | None = 0.0) -> bool:
    """Lock an open file until it is closed. Return False if another holder kept it for `wait_seconds` (None: no limit).

    A lock that the descriptor already holds is converted.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, kind if deadline is None else kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.05)


@contextmanager
def locked(path: Path, *, shared: bool = False, wait_seconds: float | None = None) -> Iterator[int]:
    """Hold the lock of a file during a with block and yield its descriptor. The file is created if it is missing.

    Errors: BlockingIOError if the lock was not free within `wait_seconds`; OSError if the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not take_lock(descriptor, shared=shared, wait_seconds=wait_seconds):
            raise BlockingIOError(f"{path} is locked")
        yield descriptor
    finally:
        os.close(descriptor)
