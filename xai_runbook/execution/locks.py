"""One lock a target, never stolen: a file lock among those who share the journal; who holds it, and how far it is."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from xai_runbook.errors import JournalError, Refused
from xai_runbook.journal import user


class Lock:
    """The target's lock. The kernel lets go of it when its holder ends, however that ends."""

    def __init__(self, folder: Path, target: str) -> None:
        self._path = folder / "locks" / hashlib.sha256(target.encode()).hexdigest()[:32]
        self._target = target
        self._descriptor = -1
        self._said = {
            "target": target,
            "user": user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def __enter__(self) -> Lock:
        """Errors: Refused, which says who holds it, since when, and how far that is; JournalError."""
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise JournalError(
                f"its lock cannot be taken: {error.strerror}", on=str(self._path), hint="our rights to that folder"
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = self._holder()
            os.close(self._descriptor)
            raise Refused(
                f"the target is locked by {words}", on=self._target, hint="wait until it is through"
            ) from None
        self.say("looking")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def say(self, progress: str) -> None:
        """Tells those who wait how far this is: "step 3 of 5"."""
        content = json.dumps(self._said | {"progress": progress}).encode()
        with suppress(OSError):  # a full disk in the middle of a change must not end it
            # truncated last, so that a reader finds whole JSON and perhaps a rest after it, never nothing
            os.pwrite(self._descriptor, content, 0)
            os.ftruncate(self._descriptor, len(content))

    def _holder(self) -> str:
        try:
            told, _ = json.JSONDecoder().raw_decode(self._path.read_text(encoding="utf-8"))
            return f"{told['user']}@{told['host']} pid {told['pid']} since {told['since']}, {told['progress']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another apply"
