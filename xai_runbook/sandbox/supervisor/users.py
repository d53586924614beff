"""Users of a sandbox: the command that started it stops it when no other command uses it any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xai_runbook.system.locks import locked, take_lock


class SharedUse:
    """A shared lock on a file beside the run folder."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def wait_until_alone(self, on_wait: Callable[[], None]) -> None:
        """Return when no other command uses the sandbox; call `on_wait` once if that takes time."""
        if not take_lock(self._descriptor):
            on_wait()
            take_lock(self._descriptor, wait_seconds=None)


@contextmanager
def using(folder: Path) -> Iterator[SharedUse]:
    """Hold a shared lock as a user of the folder's sandbox for a with block."""
    path = folder.with_name(f".{folder.name}.users")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(path, shared=True) as descriptor:
        yield SharedUse(descriptor)
