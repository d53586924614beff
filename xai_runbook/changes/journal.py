"""The journal of changes: one JSON record per line, each with the SHA-256 of the line before it.

An intent is on disk before its change acts, its outcome afterwards. A separate file, the head, holds the number of
records and the hash of the last one: the chain alone would not show that lines are missing at the end. An incomplete
last line comes from a crash during a write; it is moved aside, and that is recorded. Everything else that does not fit
is damage.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xai_runbook.changes import journal_memory
from xai_runbook.errors import JournalError
from xai_runbook.model.validation import validated
from xai_runbook.system.files import make_private_folder, write_atomically
from xai_runbook.system.locks import locked

START = "0" * 64


@dataclass(frozen=True)
class Head:
    """How many records are certain to stay, and the hash of the last one."""

    count: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """An intent with its outcome."""

    number: int
    intent: Mapping[str, Any]
    outcome: Mapping[str, Any] | None
    """None while the plan is being applied, and for ever if that ended before the outcome was written."""
    reconciled: Mapping[str, Any] | None

    @property
    def status(self) -> str:
        """The status last recorded: done, failed or unknown."""
        last = self.reconciled or self.outcome
        return str(last["status"]) if last else "unknown"


class Journal:
    """The journal in one folder. Users who share the folder share its records and its locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "journal.jsonl"
        self._head = folder / "head.json"
        self._identity = folder / "identity"
        self._entries: list[Entry] = []
        self._entries_state: tuple[int, ...] | None = None

    @property
    def stop_file(self) -> Path:
        """The file that stops all changes while it exists."""
        return self.folder / "STOP"

    def stop_reason(self) -> str | None:
        """Return the reason in the stop file, None if there is no such file. A dangling link stops changes too."""
        try:
            self.stop_file.lstat()
            return self.stop_file.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return "the reason cannot be read" if self.stop_file.is_symlink() else None
        except OSError:
            return "the reason cannot be read"

    @property
    def identity(self) -> str:
        """The UUID of this journal, empty if the folder has none. Errors: JournalError."""
        try:
            return self._identity.read_text(encoding="ascii", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise JournalError(
                f"the journal's identity cannot be read: {error.strerror}", on=str(self._identity)
            ) from None

    def create(self) -> None:
        """Create the journal unless there is one; records that exist are kept. Errors: JournalError."""
        try:
            make_private_folder(self.folder)
            with self._writing():
                if not self.identity:
                    write_atomically(self._identity, f"{uuid.uuid4()}\n".encode())
        except OSError as error:
            raise self._write_error(error) from None

    def append(self, kind: str, **payload: Any) -> int:
        """Append a record, sync it to disk and return its number. Errors: JournalError (nothing was written)."""
        try:
            identity = self.identity
            if not identity:  # for example an unmounted share: what is written now would be lost
                raise JournalError("there is no journal", on=str(self.folder), hint="xai-runbook journal init")
            with self._writing():
                head = self._write(self._recover(), kind, payload)
        except OSError as error:
            raise self._write_error(error) from None
        with suppress(OSError):  # the record is written; the next reader of the journal will remember it
            journal_memory.remember(self.folder, journal_memory.LastSeen(identity, head.count, head.hash))
        return head.count

    def _write_error(self, error: OSError) -> JournalError:
        hint = "free disk space and check the permissions of the folder"
        return JournalError(f"the journal cannot be written: {error.strerror}", on=str(self.folder), hint=hint)

    def hashes(self) -> list[str]:
        """Return the SHA-256 of each record, the oldest first. Errors: JournalError if a record was changed."""
        return [digest for _, digest in self._lines()]

    def records(self) -> list[dict[str, Any]]:
        """Return all records, the oldest first. Errors: JournalError if a record was changed."""
        return [record for record, _ in self._lines()]

    def entries(self) -> list[Entry]:
        """Return each intent with its outcome, the oldest first; cached until the file changes."""
        now = self._file_state()
        if now is None or now != self._entries_state:
            self._entries, self._entries_state = self._read_entries(), now
        return self._entries

    def _file_state(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _read_entries(self) -> list[Entry]:
        entries: dict[int, Entry] = {}
        for record in self.records():
            number = int(record.get("entry", 0))
            if record["kind"] == "intent":
                entries[record["number"]] = Entry(record["number"], record, None, None)
            elif record["kind"] == "outcome" and number in entries:
                entries[number] = Entry(number, entries[number].intent, record, None)
            elif record["kind"] == "reconciled" and number in entries:
                entries[number] = Entry(number, entries[number].intent, entries[number].outcome, record)
        return list(entries.values())

    def verify(self) -> int:
        """Prove all records and return their number. Errors: JournalError, with the first bad record."""
        head = self.head()
        count, at_head = 0, START
        for count, (_, last) in enumerate(self._lines(), 1):
            if count == head.count:
                at_head = last
        if head.count > count:
            raise JournalError(
                f"{head.count - count} records are missing at the end of the journal (it had {head.count})",
                on=str(self.path),
                hint="restore it from a copy",
            )
        # a crash between a record and its head leaves one record beyond the head, never two
        if at_head != head.hash or count - head.count > 1:
            if self.head() != head:  # another process has written meanwhile
                return self.verify()
            raise JournalError(
                f"the records do not match the head, which was written after record {head.count}",
                on=str(self.path),
                hint="restore it from a copy",
            )
        return count

    def _lines(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each record with its hash, without an incomplete last line, which `append` moves aside."""
        import orjson

        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"the journal cannot be read: {error.strerror}", on=str(self.path)) from None
        last = START
        complete = content.rpartition(b"\n")[0]
        for number, line in enumerate(complete.split(b"\n") if complete else (), 1):
            try:
                record = orjson.loads(line)
                fits = record["number"] == number and record["previous"] == last and isinstance(record["kind"], str)
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise JournalError(
                    f"record {number} was changed, or a record before it was removed",
                    on=str(self.path),
                    hint="restore it from a copy; do not edit it by hand",
                )
            last = hashlib.sha256(line).hexdigest()
            yield record, last

    def head(self) -> Head:
        """Return the head, or one of no records if nothing was written yet. Errors: JournalError."""
        try:
            return validated(Head, json.loads(self._head.read_bytes()))
        except FileNotFoundError:
            # a crash before the very first head leaves at most one record
            if self.path.exists() and self.path.read_bytes().count(b"\n") > 1:
                raise JournalError(
                    "the journal's head is missing", on=str(self._head), hint="restore it from a copy"
                ) from None
            return Head(0, START)
        except (OSError, ValueError):
            raise JournalError(
                "the journal's head cannot be read", on=str(self._head), hint="restore it from a copy"
            ) from None

    def _recover(self) -> Head:
        """Return the head, after repairing what a crash left: a head that is behind, an incomplete last line."""
        head = self.head()
        size = self.path.stat().st_size if self.path.exists() else 0
        if self._tail(size) == head:
            return head
        # after a crash: prove all records, then move an incomplete last line aside
        count = self.verify()
        content = self.path.read_bytes() if size else b""
        complete, _, torn = content.rpartition(b"\n")
        found = Head(count, hashlib.sha256(complete.rpartition(b"\n")[2]).hexdigest() if count else START)
        if found != head:
            self._write_head(found)  # now: a second crash must not leave the head two records behind
        if torn:
            write_atomically(self.folder / f"torn-after-{count}", torn)
            os.truncate(self.path, len(content) - len(torn))
            return self._write(found, "recovered", {"torn_bytes": len(torn)})
        return found

    def _tail(self, size: int) -> Head | None:
        """Return number and hash of the last record, without reading the others; None if its line is incomplete."""
        if not size:
            return Head(0, START)
        with self.path.open("rb") as file:
            tail_bytes = 65536
            while True:
                file.seek(max(0, size - tail_bytes))
                end = file.read()
                if not end.endswith(b"\n"):
                    return None
                line = end[:-1].rpartition(b"\n")[2]
                if len(line) < len(end) - 1 or tail_bytes >= size:
                    break
                tail_bytes *= 8
        try:
            return Head(json.loads(line)["number"], hashlib.sha256(line).hexdigest())
        except (ValueError, KeyError, TypeError):
            return None

    def _write(self, head: Head, kind: str, payload: Mapping[str, Any]) -> Head:
        """Append a record after `head`, and return the new head."""
        record = {
            "number": head.count + 1,
            "previous": head.hash,
            "kind": kind,
            "at": datetime.now(UTC).isoformat(),
            "user": user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **payload,
        }
        line = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        new = Head(head.count + 1, hashlib.sha256(line).hexdigest())
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
                self._write_head(new)
            except BaseException:
                # a full disk: remove the part that was written, and a record whose caller gets an error
                if self.head() == head:
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        return new

    def _write_head(self, head: Head) -> None:
        write_atomically(self._head, json.dumps(asdict(head)).encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock of the journal's writers."""
        with locked(self.folder / "writing"):
            yield


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def user() -> str:
    """Return the name of the user that this process runs as, or its number if it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
