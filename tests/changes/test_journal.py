"""The journal: records, crashes, tampering and full disks."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.pace import stretched
from xai_runbook.changes.journal import Journal
from xai_runbook.errors import JournalError

LINES = 5


@pytest.fixture
def filled(journal: Journal) -> Journal:
    for number in range(LINES):
        journal.append("note", text=f"record {number} – ünïcode\n")
    return journal


def lines(journal: Journal) -> list[bytes]:
    return journal.path.read_bytes().splitlines(keepends=True)


def test_records_come_back_with_who_when_and_where(filled: Journal) -> None:
    records = filled.records()
    assert [record["number"] for record in records] == [1, 2, 3, 4, 5]
    assert records[0]["text"] == "record 0 – ünïcode\n"
    assert {"user", "host", "pid", "at", "kind", "previous"} <= records[0].keys()
    assert records[0]["pid"] == os.getpid()
    assert filled.verify() == Journal(filled.folder).verify() == LINES


def test_each_record_holds_the_hash_of_the_one_before(filled: Journal) -> None:
    raw = [line.rstrip(b"\n") for line in lines(filled)]
    for before, record in zip(raw, filled.records()[1:], strict=False):
        assert record["previous"] == hashlib.sha256(before).hexdigest()
    assert filled.records()[0]["previous"] == "0" * 64


def test_an_empty_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.verify() == 0 and journal.records() == [] and journal.entries() == []
    assert not journal.folder.exists(), "looking makes nothing"


def test_only_its_owner_can_read_it(filled: Journal) -> None:
    assert stat.S_IMODE(filled.folder.stat().st_mode) == 0o700
    for path in filled.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_an_entry_is_an_intent_with_its_outcome(journal: Journal) -> None:
    first = journal.append("intent", digest="a")
    second = journal.append("intent", digest="b")
    third = journal.append("intent", digest="c")
    assert [entry.status for entry in journal.entries()] == ["unknown"] * 3
    journal.append("outcome", entry=first, status="done")
    journal.append("outcome", entry=second, status="unknown")
    journal.append("reconciled", entry=second, status="failed")
    journal.append("outcome", entry=99, status="done")
    journal.append("reconciled", entry=99, status="done")
    journal.append("note")
    entries = {entry.number: (entry.status, entry.intent["digest"]) for entry in journal.entries()}
    assert entries == {first: ("done", "a"), second: ("failed", "b"), third: ("unknown", "c")}


def test_entries_are_read_again_when_another_wrote(journal: Journal) -> None:
    journal.append("intent")
    assert len(journal.entries()) == 1 and journal.entries() is journal.entries()
    Journal(journal.folder).append("intent")
    assert len(journal.entries()) == 2


# crashes


def test_an_incomplete_last_record_is_moved_aside_and_recorded(filled: Journal) -> None:
    """Cut at every byte of the last record: a crash in the middle of a write leaves the head behind it."""
    content, last = filled.path.read_bytes(), lines(filled)[-1]
    before, head = content[: -len(last)], filled.folder / "head.json"
    head_before = json.dumps({"count": LINES - 1, "hash": hashlib.sha256(lines(filled)[-2][:-1]).hexdigest()})
    for cut in range(1, len(last)):
        filled.path.write_bytes(before + last[:cut])
        head.write_text(head_before)
        torn = Journal(filled.folder)
        assert torn.verify() == len(torn.records()) == LINES - 1
        if cut % 10 != 1 and cut < len(last) - 3:
            continue
        assert torn.append("note", text="after") == LINES + 1
        assert torn.verify() == LINES + 1
        recovered = torn.records()[-2]
        assert (recovered["kind"], recovered["torn_bytes"]) == ("recovered", cut)
        assert (filled.folder / f"torn-after-{LINES - 1}").read_bytes() == last[:cut]


def test_the_first_record_can_be_incomplete(journal: Journal) -> None:
    journal.append("note")
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:10])
    (journal.folder / "head.json").unlink()
    assert journal.append("note") == 2 and journal.verify() == 2


def test_a_crash_between_a_record_and_its_head_is_no_damage(filled: Journal) -> None:
    head = filled.folder / "head.json"
    for count in range(LINES, LINES + 3):  # and a second crash right after the first
        head_before = json.dumps({"count": count, "hash": hashlib.sha256(lines(filled)[-1][:-1]).hexdigest()})
        assert filled.append("note") == count + 1
        assert json.loads(head.read_bytes())["count"] == count + 1
        head.write_text(head_before)
        assert filled.verify() == count + 1
    # a writer repairs the head before it writes its own record
    second_crash = (
        "import sys, os; from pathlib import Path; from xai_runbook.changes import journal\n"
        "write = journal.Journal._write_head\n"
        "def dies(self, head): write(self, head) if head.count < int(sys.argv[2]) else os._exit(0)\n"
        "journal.Journal._write_head = dies\n"
        "journal.Journal(Path(sys.argv[1])).append('note')"
    )
    subprocess.run([sys.executable, "-c", second_crash, str(filled.folder), str(LINES + 4)], check=True)
    assert filled.verify() == LINES + 4 == filled.append("note") - 1


def test_a_crash_before_the_first_head_is_no_damage(journal: Journal) -> None:
    journal.append("note")
    (journal.folder / "head.json").unlink()
    assert journal.verify() == 1 and journal.append("note") == 2 and journal.verify() == 2


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_writer_leaves_a_whole_journal(journal: Journal, signal_: signal.Signals) -> None:
    code = (
        "import sys; from pathlib import Path; from xai_runbook.changes.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "while True: print(journal.append('note', text='x' * 3000), flush=True)"
    )
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(journal.folder)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            numbers = [int(writer.stdout.readline()) for _ in range(20)]
            writer.send_signal(signal_)
            numbers += [int(line) for line in writer.stdout if line.endswith("\n")]
        assert journal.append("note") > numbers[-1]
        assert {record["number"] for record in journal.records()} >= set(numbers)
        journal.verify()


def test_writers_take_turns(journal: Journal) -> None:
    code = (
        "import sys; from pathlib import Path; from xai_runbook.changes.journal import Journal\n"
        "for n in range(25): Journal(Path(sys.argv[1])).append('note', n=n)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(journal.folder)]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert journal.verify() == 75
    records = [(record["pid"], record["n"]) for record in journal.records()]
    assert sorted(records) == sorted((writer.pid, n) for writer in writers for n in range(25))


# tampering


def without(place: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda all_: all_[:place] + all_[place + 1 :]


DAMAGE: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "changed": lambda all_: [*all_[:1], all_[1].replace(b"record 1", b"record X"), *all_[2:]],
    "first changed": lambda all_: [all_[0].replace(b"record 0", b"record X"), *all_[1:]],
    "last changed": lambda all_: [*all_[:-1], all_[-1].replace(b"record 4", b"record X")],
    "number changed": lambda all_: [*all_[:1], all_[1].replace(b'"number":2', b'"number":3'), *all_[2:]],
    "reordered": lambda all_: [all_[1], all_[0], *all_[2:]],
    "inserted": lambda all_: [*all_[:2], all_[1], *all_[2:]],
    "added": lambda all_: [*all_, all_[-1]],
    "emptied": lambda all_: [],
    "not JSON": lambda all_: [*all_[:1], b"rubbish\n", *all_[2:]],
    "last is rubbish": lambda all_: [*all_[:-1], b"rubbish\n"],
    "no record": lambda all_: [*all_[:1], b"[]\n", *all_[2:]],
    "empty line": lambda all_: [*all_[:1], b"\n", *all_[1:]],
    "end of line taken": lambda all_: [*all_[:-1], all_[-1][:-1]],
    **{f"{place} removed": without(place) for place in range(LINES)},
    **{f"{count} cut off": (lambda all_, count=count: all_[:-count]) for count in (1, 2, 4)},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_nothing_is_appended_to_it(filled: Journal, damage: str) -> None:
    filled.path.write_bytes(b"".join(DAMAGE[damage](lines(filled))))
    with pytest.raises(JournalError, match=r"do not match the head|was changed|missing at the end"):
        filled.verify()
    found = filled.path.read_bytes()
    with pytest.raises(JournalError):  # what apply does: it reads what was, then it writes
        filled.entries(), filled.append("note")
    assert filled.path.read_bytes() == found


def test_records_missing_at_the_end_are_counted(filled: Journal) -> None:
    filled.path.write_bytes(b"".join(lines(filled)[:-2]))
    with pytest.raises(JournalError, match=r"2 records are missing at the end of the journal \(it had 5\)"):
        filled.verify()


def test_two_records_beyond_the_head_are_damage(filled: Journal) -> None:
    head = filled.folder / "head.json"
    before = head.read_bytes()
    filled.append("note"), filled.append("note")
    head.write_bytes(before)
    with pytest.raises(JournalError, match="after record 5"):
        filled.verify()


@pytest.mark.parametrize(
    "head", [b"", b"{}", b"[]", b'{"count": "x", "hash": 1}', b'{"count": 5, "hash": "00"}'], ids=str
)
def test_a_changed_head_is_found(filled: Journal, head: bytes) -> None:
    (filled.folder / "head.json").write_bytes(head)
    with pytest.raises(JournalError, match=r"head cannot be read|do not match the head"):
        filled.verify()
    with pytest.raises(JournalError):
        filled.append("note")


def test_a_missing_head_is_found(filled: Journal) -> None:
    (filled.folder / "head.json").unlink()
    with pytest.raises(JournalError, match="head is missing"):
        filled.verify()


def test_what_cannot_be_read_or_written_says_why(journal: Journal, tmp_path: Path) -> None:
    journal.path.mkdir()
    (journal.folder / "head.json").mkdir()
    with pytest.raises(JournalError, match="head cannot be read"):
        journal.verify()
    with pytest.raises(JournalError, match="cannot be read: Is a directory"):
        journal.records()
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be written"):
        Journal(tmp_path / "file" / "journal").create()
    with pytest.raises(JournalError, match="there is no journal"):
        Journal(tmp_path / "file" / "journal").append("note")


# full disks


def full(journal: Journal, most_bytes: int, text: str) -> subprocess.CompletedProcess[str]:
    """Appends with no room for more than so many bytes in a file, as a full disk or a quota has none."""
    code = (
        "import sys; from pathlib import Path; from xai_runbook.changes.journal import Journal\n"
        "try: Journal(Path(sys.argv[1])).append('note', text=sys.argv[2])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", code, str(journal.folder), text], capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    )  # fmt: skip


@pytest.mark.parametrize("room", [0, 1, 100, 2000])
def test_a_full_disk_leaves_no_part_of_a_record(filled: Journal, room: int) -> None:
    before = filled.path.read_bytes()
    done = full(filled, len(before) + room, "x" * 5000)
    assert "JournalError the journal cannot be written: File too large" in done.stdout
    assert filled.path.read_bytes() == before and filled.verify() == LINES
    assert filled.append("note") == LINES + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system that is full")
def test_a_disk_that_is_really_full(journal: Journal) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", journal.folder], check=True)
    try:
        journal.create()
        journal.append("note", text="x" * 1000)
        (journal.folder / "fill").write_bytes(b"x" * 40_000)
        written: list[int] = []
        with pytest.raises(JournalError, match="cannot be written: No space left on device"):
            written.extend(journal.append("note", text="x" * 3000) for _ in range(100))
        count = journal.verify()
        assert count == written[-1], "what could not be written whole, head and all, was not written"
        (journal.folder / "fill").unlink()
        assert journal.append("note") == count + 1 == journal.verify()
    finally:
        subprocess.run(["umount", journal.folder], check=True)


def test_a_user_without_a_name_has_a_number(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)
    journal.append("note")
    assert journal.records()[0]["user"] == "uid 4242424"


def test_many_records_are_proved_fast(journal: Journal) -> None:
    """A hundred thousand in seconds, not minutes: make bench has the figure against sha256sum."""
    import time

    journal.append("note")
    last, made = journal.path.read_bytes()[:-1], [journal.path.read_bytes()]
    record: dict[str, Any] = json.loads(last)
    for number in range(2, 20_001):
        record |= {"number": number, "previous": hashlib.sha256(last).hexdigest()}
        last = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        made.append(last + b"\n")
    journal.path.write_bytes(b"".join(made))
    (journal.folder / "head.json").write_text(json.dumps({"count": 20_000, "hash": hashlib.sha256(last).hexdigest()}))
    started = time.monotonic()
    assert journal.verify() == 20_000
    assert time.monotonic() - started < stretched(5)
    started = time.monotonic()
    assert journal.append("note", text="x" * 100_000) == 20_001
    assert journal.append("note") == 20_002, "the last line is found behind a long one"
    assert time.monotonic() - started < stretched(1), "a writer does not read all of it"
