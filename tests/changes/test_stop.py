"""The emergency brake: a script may pull it, only a person releases it, and the journal has both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.written_plans import written
from xai_runbook.changes.journal import Journal
from xai_runbook.changes.reconcile import reconcile
from xai_runbook.changes.stop import resume, stop
from xai_runbook.environment import Environment
from xai_runbook.errors import JournalError, Refused
from xai_runbook.system import interactive


def kinds(journal: Journal) -> list[tuple[str, str]]:
    records = [json.loads(line) for line in journal.path.read_text(encoding="utf-8").splitlines()]
    return [(record["kind"], record.get("why", "")) for record in records]


def test_s18_stop_needs_no_person_and_is_an_entry(nowhere: Environment, journal: Journal) -> None:
    assert not interactive.is_interactive()
    assert stop(nowhere, "INC-7\x1b[2J") == ""
    assert journal.stop_reason() == "INC-7\N{REPLACEMENT CHARACTER}[2J"
    assert kinds(journal)[-1] == ("stopped", "INC-7\N{REPLACEMENT CHARACTER}[2J")


def test_s18_stop_works_where_its_entry_cannot_be_written(
    nowhere: Environment, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **more: object) -> int:
        raise JournalError("cannot be written: No space left on device", on=str(journal.path))

    monkeypatch.setattr(Journal, "append", full)
    assert "No space left" in stop(nowhere, "INC-8")
    assert journal.stop_reason() == "INC-8"


def test_s18_resume_needs_a_person(nowhere: Environment, journal: Journal) -> None:
    stop(nowhere, "INC-9")
    with pytest.raises(Refused, match="needs a person"):
        resume(nowhere)
    assert journal.stop_reason() == "INC-9"


@pytest.mark.usefixtures("terminal")
def test_resume_is_an_entry(nowhere: Environment, journal: Journal) -> None:
    assert not resume(nowhere)
    stop(nowhere, "INC-9")
    assert resume(nowhere, "it is over")
    assert journal.stop_reason() is None and kinds(journal)[-1] == ("resumed", "it is over")
    journal.verify()


def test_s18_a_status_needs_a_person(nowhere: Environment, journal: Journal) -> None:
    number = journal.append("intent", digest="a", target="", plan=written().to_json())
    with pytest.raises(Refused, match="by a person only"):
        reconcile(nowhere, number, status="done", why="I looked")
    assert journal.entries()[-1].status == "unknown"


def test_s23_a_dangling_link_stops(journal: Journal, tmp_path: Path) -> None:
    assert journal.stop_reason() is None
    journal.stop_file.symlink_to(tmp_path / "nothing")
    assert journal.stop_reason() == "the reason cannot be read"
