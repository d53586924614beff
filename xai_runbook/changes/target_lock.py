"""The locks of a plan's parts, never stolen: files for those who share a journal, advisory locks in the server for all.

Each part has two locks. The first is shared by those who read or change the part, and taken alone by an exclusive
plan; the second is taken alone by each who changes it. See `xai_runbook.model.parts` for what that makes overlap.
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
    """Each lock that these parts need, in sorted order: the part, the lock's own name, whether it is shared."""
    for part, mode in sorted(parts.items()):
        yield part, part, mode != "exclusive"
        if mode == "change":
            yield part, f"{part} change", False


class Lock:
    """The file locks of a plan's parts. The kernel lets go of them when their holder ends, however that ends."""

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
        """Errors: Refused, which says who holds which of them, since when, and how far that is; JournalError."""
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
        """Tells those who wait how far this is: "step 3 of 5"."""
        content = json.dumps(self._holder | {"progress": progress}).encode()
        for descriptor in self._descriptors:
            with suppress(OSError):  # a full disk in the middle of a change must not end it
                # truncated last, so that a reader finds whole JSON and perhaps a rest after it, never nothing
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
                if take_lock(descriptor):  # else another one shares it: what that one says there stays
                    os.ftruncate(descriptor, 0)
            os.close(descriptor)


def lock_in_server(operator: Operator, parts: Parts, server: str) -> None:
    """Takes the same locks in the server itself, until the session ends: for those who do not share a journal (P14).

    The server's own name is left out of the keys: it is this server, even where its name depends on an address.
    Errors: Refused.
    """
    for part, name, shared in _locks(parts):
        digest = hashlib.sha256(name.replace(server, "", 1).encode()).digest()
        key = {"key": int.from_bytes(digest[:8], "big", signed=True), "shared": shared}
        (row,) = operator.rows("take_advisory_lock", key)
        # an advisory lock is known in its own database alone: those who are in another one are looked for
        (others,) = operator.rows("advisory_lock_other_databases", key)
        if not row["taken"] or others["holders_count"]:
            raise Refused(
                "the target is locked by another apply, seen in the database itself",
                on=part,
                hint="wait until it has finished",
            )


def _holder_text(path: Path) -> str:
    try:
        told, _ = json.JSONDecoder().raw_decode(path.read_text(encoding="utf-8"))
        return f"{told['user']}@{told['host']} pid {told['pid']} since {told['since']}, {told['progress']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another apply"
