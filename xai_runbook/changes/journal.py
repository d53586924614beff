"""What was meant, and what came of it: one JSON record a line, each holding the SHA-256 of the line before it.

An intent is on disk before anything acts, its outcome after. Beside the records lies the head, the number of records
and the hash of the last one: a chain alone would not miss lines that were cut off its end. A last line without its end
is a write that a crash cut short; it is set aside, and that is recorded. Everything else that does not fit is damage.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from xai_runbook.changes import journal_memory
from xai_runbook.errors import JournalError
from xai_runbook.system.files import make_private, write_whole
from xai_runbook.system.locks import locked

START = "0" * 64


class Head(BaseModel):
    """How many records are certain to stay, and the hash of the last one."""

    model_config = ConfigDict(frozen=True, strict=True)

    count: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One intent and what became of it."""

    number: int
    intent: Mapping[str, Any]
    outcome: Mapping[str, Any] | None
    """None while it acts, and for ever where that ended before it could say."""
    reconciled: Mapping[str, Any] | None

    @property
    def status(self) -> str:
        """done, failed or unknown, as last told."""
        told = self.reconciled or self.outcome
        return str(told["status"]) if told else "unknown"


class Journal:
    """The journal in one folder; those who share the folder share its memory and its locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "journal.jsonl"
        self._head = folder / "head.json"
        self._identity = folder / "identity"
        self._entries: list[Entry] = []
        self._entries_of: tuple[int, ...] | None = None

    @property
    def stop_file(self) -> Path:
        """While it exists, nothing acts."""
        return self.folder / "STOP"

    @property
    def identity(self) -> str:
        """What tells this journal from every other; empty where none was made in the folder. Errors: JournalError."""
        try:
            return self._identity.read_text(encoding="ascii", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise JournalError(
                f"the journal's identity cannot be read: {error.strerror}", on=str(self._identity)
            ) from None

    def create(self) -> None:
        """Make the journal in its folder, unless there is one; records that are there stay. Errors: JournalError."""
        try:
            make_private(self.folder)
            with self._writing():
                if not self.identity:
                    write_whole(self._identity, f"{uuid.uuid4()}\n".encode())
        except OSError as error:
            raise self._write_error(error) from None

    def append(self, kind: str, **payload: Any) -> int:
        """The record's number; it is on disk when this returns. Errors: JournalError, and nothing is half written."""
        try:
            identity = self.identity
            if not identity:  # its share was unmounted, say: what is written here now would be lost, or forgotten
                raise JournalError("there is no journal", on=str(self.folder), hint="xai-runbook journal init")
            with self._writing():
                head = self._write(self._recover(), kind, payload)
        except OSError as error:
            raise self._write_error(error) from None
        with suppress(OSError):  # it is written; the next look at the journal remembers it
            journal_memory.remember(
                self.folder, journal_memory.LastSeen(identity=identity, count=head.count, hash=head.hash)
            )
        return head.count

    def _write_error(self, error: OSError) -> JournalError:
        hint = "free disk space and check the permissions of the folder"
        return JournalError(f"the journal cannot be written: {error.strerror}", on=str(self.folder), hint=hint)

    def hashes(self) -> list[str]:
        """Each record's SHA-256, the oldest first. Errors: JournalError where a line is not what was written."""
        return [own for _, own in self._lines()]

    def records(self) -> list[dict[str, Any]]:
        """Every record, the oldest first. Errors: JournalError where a line is not what was written."""
        return [record for record, _ in self._lines()]

    def entries(self) -> list[Entry]:
        """Every intent with its outcome, the oldest first; read again only where the file is another than before."""
        now = self._file_state()
        if now is None or now != self._entries_of:
            self._entries, self._entries_of = self._read_entries(), now
        return self._entries

    def _file_state(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read_entries(self) -> list[Entry]:
        found: dict[int, Entry] = {}
        for record in self.records():
            number = int(record.get("entry", 0))
            if record["kind"] == "intent":
                found[record["number"]] = Entry(record["number"], record, None, None)
            elif record["kind"] == "outcome" and number in found:
                found[number] = Entry(number, found[number].intent, record, None)
            elif record["kind"] == "reconciled" and number in found:
                found[number] = Entry(number, found[number].intent, found[number].outcome, record)
        return list(found.values())

    def verify(self) -> int:
        """How many records there are, all of them proved. Errors: JournalError, which names the first that is not."""
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
        # a crash between a record and its head leaves one record that the head does not know yet, never two
        if at_head != head.hash or count - head.count > 1:
            if self.head() != head:  # others have written in the meantime
                return self.verify()
            raise JournalError(
                f"the records do not match the head, which was written after record {head.count}",
                on=str(self.path),
                hint="restore it from a copy",
            )
        return count

    def _lines(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Each record with its own hash; a torn last line is passed over, since `append` sets it aside."""
        import orjson

        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"the journal cannot be read: {error.strerror}", on=str(self.path)) from None
        last = START
        whole = content.rpartition(b"\n")[0]
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
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
        """How many records (`count`) are certain to stay, and the hash of the last one. Errors: JournalError."""
        try:
            return Head.model_validate_json(self._head.read_bytes())
        except FileNotFoundError:
            # a crash before the very first head leaves one record at most
            if self.path.exists() and self.path.read_bytes().count(b"\n") > 1:
                raise JournalError(
                    "the journal's head is missing", on=str(self._head), hint="restore it from a copy"
                ) from None
            return Head(count=0, hash=START)
        except (OSError, ValidationError):
            raise JournalError(
                "the journal's head cannot be read", on=str(self._head), hint="restore it from a copy"
            ) from None

    def _recover(self) -> Head:
        """The head of the whole records, after whatever a crash left has been set aside."""
        head = self.head()
        size = self.path.stat().st_size if self.path.exists() else 0
        if self._tail(size) == head:
            return head
        # not the plain case: prove all of it, then set a torn end aside
        count = self.verify()
        content = self.path.read_bytes() if size else b""
        whole, _, torn = content.rpartition(b"\n")
        found = Head(count=count, hash=hashlib.sha256(whole.rpartition(b"\n")[2]).hexdigest() if count else START)
        if found != head:
            self._write_head(found)  # a crash came between the two; a second one must not leave it two behind
        if torn:
            write_whole(self.folder / f"torn-after-{count}", torn)
            os.truncate(self.path, len(content) - len(torn))
            return self._write(found, "recovered", {"torn_bytes": len(torn)})
        return found

    def _tail(self, size: int) -> Head | None:
        """Number and hash of the last line, without reading the rest; None where it is torn."""
        if not size:
            return Head(count=0, hash=START)
        with self.path.open("rb") as file:
            reach = 65536
            while True:
                file.seek(max(0, size - reach))
                end = file.read()
                if not end.endswith(b"\n"):
                    return None
                line = end[:-1].rpartition(b"\n")[2]
                if len(line) < len(end) - 1 or reach >= size:
                    break
                reach *= 8
        try:
            return Head(count=json.loads(line)["number"], hash=hashlib.sha256(line).hexdigest())
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
        new = Head(count=head.count + 1, hash=hashlib.sha256(line).hexdigest())
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line + b"\n")
                os.fsync(descriptor)
                self._write_head(new)
            except BaseException:
                # a full disk: what fitted must not stay, nor a record that nobody was told was written
                if self.head() == head:
                    os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        return new

    def _write_head(self, head: Head) -> None:
        write_whole(self._head, head.model_dump_json().encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with locked(self.folder / "writing"):
            yield


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def user() -> str:
    """The name of the user that this runs as; its number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
