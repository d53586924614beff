"""Locks on a plan's parts: files for users who share a journal, advisory locks in the server for everybody.

Each part has two locks. Plans that read or change the part share the first, and an exclusive plan takes it alone; the
second is taken alone by each plan that changes the part. `xai_runbook.model.parts` says which plans overlap.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from xai_runbook.changes.journal import user
from xai_runbook.errors import JournalError, Refused
from xai_runbook.model.parts import Parts
from xai_runbook.system.locks import take_lock

if TYPE_CHECKING:
    from xai_runbook.clients.postgres.operator import Operator


def _locks(parts: Parts) -> Iterator[tuple[str, str, bool]]:
    """Yield the locks that these parts need, sorted: part, name of the lock, whether it is shared."""
    for part, mode in sorted(parts.items()):
        yield part, part, mode != "exclusive"
        if mode == "change":
            yield part, f"{part} change", False


class Lock:
    """The file locks of a plan's parts. The kernel frees them when their holder ends, however it ends."""

    def __init__(self, folder: Path, parts: Parts) -> None:
        self._folder = folder / "locks"
        self._parts = parts
        self._descriptors: list[int] = []
        self._holder = {
            "user": user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def __enter__(self) -> Lock:
        """Take the locks. Errors: Refused, with holder, start and progress of the other apply; JournalError."""
        try:
            for part, name, shared in _locks(self._parts):
                self._take(part, name, shared)
        except BaseException:
            self._release()
            raise
        self.report("checking")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def report(self, progress: str) -> None:
        """Write progress such as "step 3 of 5" into the lock files, for whoever finds them locked."""
        content = json.dumps(self._holder | {"progress": progress}).encode()
        for descriptor in self._descriptors:
            with suppress(OSError):  # a full disk must not end a change half way
                # truncated last: a reader finds complete JSON, perhaps with a rest behind it
                os.pwrite(descriptor, content, 0)
                os.ftruncate(descriptor, len(content))

    def _take(self, part: str, name: str, shared: bool) -> None:
        path = self._folder / hashlib.sha256(name.encode()).hexdigest()[:32]
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise JournalError(
                f"the target cannot be locked: {error.strerror}",
                on=str(path),
                hint="check the permissions of that folder",
            ) from None
        self._descriptors.append(descriptor)
        if not take_lock(descriptor, shared=shared):
            self._descriptors.remove(descriptor)
            os.close(descriptor)
            raise Refused(f"the target is locked by {_holder_text(path)}", on=part, hint="wait until it has finished")

    def _release(self) -> None:
        while self._descriptors:
            descriptor = self._descriptors.pop()
            with suppress(OSError):
                if take_lock(descriptor):  # else another apply shares it, and its progress stays
                    os.ftruncate(descriptor, 0)
            os.close(descriptor)


def lock_in_server(operator: Operator, parts: Parts, server: str) -> None:
    """Take the same locks in the server, until the session ends: for users who do not share a journal (P14).

    The keys leave out the server's own name, which may depend on an address. Errors: Refused.
    """
    for part, name, shared in _locks(parts):
        digest = hashlib.sha256(name.replace(server, "", 1).encode()).digest()
        key = {"key": int.from_bytes(digest[:8], "big", signed=True), "shared": shared}
        (row,) = operator.rows("take_advisory_lock", key)
        # an advisory lock only excludes sessions of its own database: look for those in other databases
        (others,) = operator.rows("advisory_lock_other_databases", key)
        if not row["taken"] or others["holders_count"]:
            raise Refused(
                "the target is locked by another apply, seen in the database itself",
                on=part,
                hint="wait until it has finished",
            )


def _holder_text(path: Path) -> str:
    try:
        holder, _ = json.JSONDecoder().raw_decode(path.read_text(encoding="utf-8"))
        return f"{holder['user']}@{holder['host']} pid {holder['pid']} since {holder['since']}, {holder['progress']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another apply"
