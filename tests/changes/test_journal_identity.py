"""A journal that is missing, emptied, rolled back or replaced is refused, and never recreated silently."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.typed import Typed, run
from tests.support.written_plans import written
from xai_runbook import apply
from xai_runbook.changes.journal import Head, Journal
from xai_runbook.changes.journals import init, journal_of
from xai_runbook.cli.main import main
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, JournalError, Refused


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the journal, not created yet, of an environment in the user's own settings."""
    (tmp_path / "config").mkdir(mode=0o700)
    (tmp_path / "config" / "mine.toml").write_text(f'[outputs]\njournal = "{tmp_path}/share/journal"\n')
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XAI_RUNBOOK_ENV", "mine")
    return tmp_path / "share" / "journal"


@pytest.fixture
def used(here: Environment, journal: Journal) -> Environment:
    """The sandbox with a journal that has seen a change of unknown outcome."""
    found = journal_of(here)
    found.append("intent", digest="a", target="", reason="", environment="sandbox", plan=written().to_json())
    found.append("outcome", entry=1, status="unknown", summary="lost")
    return here


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def without_its_end(folder: Path) -> None:
    """Puts back an older copy, whole in itself."""
    journal = Journal(folder)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    hash_ = journal.hashes()[0]
    journal.path.write_bytes(lines[0])
    (folder / "head.json").write_text(json.dumps({"count": 1, "hash": hash_}))


def made_anew(folder: Path) -> None:
    shutil.rmtree(folder)
    Journal(folder).create()


def with_other_records(folder: Path) -> None:
    """The same identity and number of records, of which one is another."""
    identity = (folder / "identity").read_bytes()
    made_anew(folder)
    (folder / "identity").write_bytes(identity)
    head, lines = folder / "head.json", folder / "journal.jsonl"
    other = Journal(folder.with_name("other"))
    other.create()
    for _ in range(2):
        other.append("note")
    shutil.copy(other.path, lines)
    shutil.copy(other.folder / "head.json", head)


def led_elsewhere(folder: Path) -> None:
    shutil.move(folder, folder.with_name("away"))
    Journal(folder.with_name("elsewhere")).create()
    folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (shutil.rmtree, "the journal is missing; it had 2 records"),
        (emptied, "the journal is missing; it had 2 records"),
        (without_its_end, "records are missing: the journal has 1 and had 2"),
        (made_anew, "this is not the known journal of 2 records"),
        (with_other_records, "record 2 is not the one that was seen before"),
        (led_elsewhere, "this is not the known journal of 2 records"),
    ],
)
def test_s9_a_journal_that_is_not_the_known_one_is_refused(
    used: Environment,
    journal: Journal,
    happens: Callable[[Path], object],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    happens(journal.folder)
    before = sorted(journal.folder.iterdir()) if journal.folder.exists() else None
    plan = written()
    with pytest.raises(JournalError, match=says) as refused:
        apply(plan, used, confirm=plan.confirmation)
    assert "mount its folder" in str(refused.value) and "--replace --why" in str(refused.value)
    for arguments in (["list"], ["show", "1"], ["verify"], ["reconcile", "1"]):
        done = run("journal", *arguments, journal=journal.folder)
        assert done.returncode == 3 and says in done.stderr, arguments
    for arguments in (["stop", "--why", "x"], ["resume"], ["undo", "1"]):
        done = run(*arguments, journal=journal.folder)
        assert done.returncode == 3 and says in done.stderr, arguments
    assert (sorted(journal.folder.iterdir()) if journal.folder.exists() else None) == before, "nothing is made"


def test_s9_a_journal_that_disappears_is_not_recreated(used: Environment, journal: Journal) -> None:
    found = journal_of(used)
    shutil.rmtree(journal.folder)
    with pytest.raises(JournalError, match="there is no journal"):
        found.append("intent")
    assert not journal.folder.exists()


def test_s9_a_moved_journal_is_the_same_by_a_link(used: Environment, journal: Journal) -> None:
    shutil.move(journal.folder, journal.folder.with_name("away"))
    journal.folder.symlink_to(journal.folder.with_name("away"))
    assert len(journal_of(used).entries()) == 1


def test_s9_outside_the_sandbox_a_journal_is_created_once(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["journal", "list"], ["stop", "--why", "x"]):
        assert main(arguments) == 3
        message = capsys.readouterr().err
        assert "there is no journal" in message and "xai-runbook journal init --env mine" in message
    assert not mine.parent.exists()
    assert main(["journal", "init"]) == 0 and main(["journal", "list"]) == 0
    assert "created the journal" in capsys.readouterr().out
    assert main(["journal", "init"]) == 0
    assert "there is a journal already" in capsys.readouterr().out
    shutil.rmtree(mine)
    assert main(["journal", "init"]) == 3
    assert "a journal of 0 records was seen here before" in capsys.readouterr().err
    assert not mine.exists()


def test_s9_a_journal_of_an_earlier_version_gets_an_identity(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = Journal(mine)
    old.create()
    old.append("intent", digest="a", target="", reason="", environment="mine", plan=written().to_json())
    (mine / "identity").unlink()
    shutil.rmtree(Path(os.environ["XDG_STATE_HOME"]) / "xai-runbook" / "journals")
    assert main(["journal", "list"]) == 3
    assert "has no identity yet" in capsys.readouterr().err
    assert main(["journal", "init"]) == 0 and main(["journal", "list"]) == 0
    assert "unknown" in capsys.readouterr().out


def test_s9_only_a_person_replaces_a_journal_and_says_why(used: Environment, journal: Journal, terminal: int) -> None:
    shutil.rmtree(journal.folder)
    with pytest.raises(InputError, match="needs a reason"):
        init(journal, "sandbox", replace=True)
    done = run("journal", "init", "--replace", "--why", "the disk died", journal=journal.folder)
    assert done.returncode == 3 and "needs a person" in done.stderr
    with pytest.raises(Refused, match="a journal of 2 records was seen here before"):
        init(journal, "sandbox")
    with Typed("journal", "init", "--replace", "--why", "the disk died", journal=journal.folder) as person:
        assert person.ended() == 0, person.shown
    (record,) = journal_of(used).records()
    assert (record["kind"], record["why"], record["known"]["count"]) == ("replaced", "the disk died", 2)


@pytest.mark.usefixtures("terminal")
def test_s9_records_of_other_users_are_accepted(used: Environment, journal: Journal) -> None:
    Journal(journal.folder).append("note")
    memory = Path(os.environ["XDG_STATE_HOME"]) / "xai-runbook" / "journals"
    for path in memory.iterdir():
        path.unlink()  # another user, who sees it for the first time
    assert journal_of(used).verify() == 3
    assert len(list(memory.iterdir())) == 1


def test_s9_a_record_removed_by_a_full_disk_is_not_missed(
    used: Environment, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reads between the record and its head, which then finds no room."""
    seen = []

    def disk_full(self: Journal, head: Head) -> None:
        seen.append(len(journal_of(used).hashes()))
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = Journal(journal.folder)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_write_head", disk_full)
        with pytest.raises(JournalError, match="No space left"):
            writer.append("note")
    assert seen == [3] and journal_of(used).verify() == 2, "it was read, and taken back"
    writer.append("another note")
    assert journal_of(used).verify() == 3
    without_its_end(journal.folder)
    with pytest.raises(JournalError, match="records are missing: the journal has 1 and had 3"):
        journal_of(used)


def test_s9_an_unreadable_last_seen_state_is_an_error(used: Environment, journal: Journal) -> None:
    from xai_runbook.changes import journal_memory

    journal_memory.path_of(journal.folder).write_text("{")
    with pytest.raises(JournalError, match="the last seen state of the journal"):
        journal_of(used)
