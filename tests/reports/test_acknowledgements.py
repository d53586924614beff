from __future__ import annotations

import multiprocessing
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.samples import finding
from xai_runbook.errors import InputError, SettingsError
from xai_runbook.model.findings import Verdict, verdict
from xai_runbook.reports import acknowledgements
from xai_runbook.reports.acknowledgements import Acknowledgement, mark_acknowledged, new_acknowledgement

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def seen(name: str = "disk_free", status: str = "alert", severity: str | None = "high", **more: Any) -> Acknowledgement:
    until = more.pop("until", "4h")
    return new_acknowledgement(finding(name, status, severity, **more), "plain", until, "a new disk is coming")


def test_an_acknowledged_finding_is_marked_and_does_not_count_in_the_verdict() -> None:
    (marked,) = mark_acknowledged([finding("disk_free")], [seen()], "plain")
    assert marked.acknowledged
    assert marked.acknowledged["why"] == "a new disk is coming"
    assert "@" in marked.acknowledged["by"]
    assert datetime.fromisoformat(marked.acknowledged["until"]).tzinfo
    assert verdict([marked], complete=True) is Verdict.OK


def test_a_finding_that_has_become_worse_is_not_covered() -> None:
    def covered(then: Acknowledgement, **now: Any) -> bool:
        return bool(mark_acknowledged([finding("disk_free", **now)], [then], "plain")[0].acknowledged)

    high = seen(targets=("node-1", "node-2"))
    assert covered(high, targets=("node-1", "node-2"))
    assert covered(high, targets=("node-2",)), "a target that has recovered is not worse"
    assert not covered(high, targets=("node-1", "node-3")), "a target that was not there then"
    assert not covered(high, severity="critical", targets=("node-1",))
    assert covered(high, severity="medium", targets=("node-1",))
    assert not covered(high, status="unknown", targets=("node-1",)), "the reason may be worse than the alert"
    unknown = seen(status="unknown")
    assert covered(unknown, status="unknown")
    assert not covered(unknown, status="alert", severity="medium"), "an alert is worse than unknown"


def test_another_environment_or_finding_is_not_covered() -> None:
    assert not mark_acknowledged([finding("disk_free")], [seen()], "other")[0].acknowledged
    assert not mark_acknowledged([finding("cpu_used")], [seen()], "plain")[0].acknowledged


def test_an_expired_one_does_not_count() -> None:
    one = seen(until="1h")
    before, after = one.until - timedelta(seconds=1), one.until
    assert mark_acknowledged([finding("disk_free")], [one], "plain", now=before)[0].acknowledged
    assert not mark_acknowledged([finding("disk_free")], [one], "plain", now=after)[0].acknowledged


def test_a_finding_cannot_acknowledge_itself() -> None:
    forged = finding("disk_free", acknowledged={"until": "2099-01-01T00:00:00+00:00", "why": "me", "by": "me"})
    assert mark_acknowledged([forged], [], "plain")[0].acknowledged is None


def test_an_ok_finding_is_neither_acknowledged_nor_marked() -> None:
    with pytest.raises(InputError, match="nothing to acknowledge"):
        seen(status="ok")
    assert mark_acknowledged([finding("disk_free", "ok")], [seen()], "plain")[0].acknowledged is None


@pytest.mark.parametrize("why", ["", "  \n"])
def test_a_reason_is_needed(why: str) -> None:
    with pytest.raises(InputError, match="reason"):
        new_acknowledgement(finding("a"), "plain", "4h", why)


def test_parsing_the_end_of_an_acknowledgement() -> None:
    assert acknowledgements.parse_until("4h", NOW) == NOW + timedelta(hours=4)
    assert acknowledgements.parse_until("2026-11-26T01:00:00+01:00", NOW) == NOW + timedelta(days=1)
    for text in ("soon", "", "0s", "-4h", "2026-11-26T00:00:00", "2020-01-01T00:00:00Z", "10y", "99999999y"):
        with pytest.raises(InputError):
            acknowledgements.parse_until(text, NOW)


def test_what_is_written_is_read_back_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "acknowledgements.toml"
    one, two = seen("disk_free", targets=("a",)), seen("pool", "unknown", None)
    acknowledgements.add(path, one)
    acknowledgements.add(path, two)
    assert acknowledgements.read(path) == [one, two]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_newer_one_replaces_an_older_and_expired_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    old, newer = seen(until="1h"), seen(until="2h")
    expired = Acknowledgement(**{**seen("cpu_used").__dict__, "until": datetime.now(UTC) - timedelta(hours=1)})
    for one in (old, expired, newer):
        acknowledgements.add(path, one)
    assert acknowledgements.read(path) == [newer]


def test_an_acknowledgement_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    acknowledgements.add(path, seen())
    with pytest.raises(InputError, match="not acknowledged"):
        acknowledgements.remove(path, "other", "disk_free")
    acknowledgements.remove(path, "plain", "disk_free")
    assert acknowledgements.read(path) == []


def test_no_file_is_no_acknowledgement(tmp_path: Path) -> None:
    assert acknowledgements.read(tmp_path / "none.toml") == []


_ROW = """
[[acknowledgement]]
environment = "plain"
finding = "disk_free"
until = 2099-01-01T00:00:00Z
why = "w"
by = "b"
at = 2026-01-01T00:00:00Z
status = "alert"
severity = "high"
targets = []
"""


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(_ROW)
    assert acknowledgements.read(path)[0].finding == "disk_free"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[[acknowledgement]]", "[[acknowledgement]"),
        ("[[acknowledgement]]", "[acknowledgement]"),
        ("[[acknowledgement]]", "[[acknowledgements]]"),
        ('status = "alert"', 'status = "fine"'),
        ('severity = "high"', 'severity = "grave"'),
        ("targets = []", 'targets = "node-1"'),
        ("targets = []", "targets = [1]"),
        ("targets = []", "targets = []\nmore = 1"),
        ('why = "w"', "why = 1"),
        ('why = "w"\n', ""),
        ("2099-01-01T00:00:00Z", "2099-01-01T00:00:00"),
        ("2099-01-01T00:00:00Z", '"2099-01-01T00:00:00Z"'),
        ("2099-01-01T00:00:00Z", "2099-01-01"),
    ],
)
def test_a_malformed_file_is_an_error_that_names_it(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(_ROW.replace(old, new))
    with pytest.raises(SettingsError, match=r"mine\.toml"):
        acknowledgements.read(path)
    with pytest.raises(SettingsError):
        acknowledgements.add(path, seen())
    assert path.read_text() == _ROW.replace(old, new), "a file that cannot be read is not overwritten"


def test_a_file_that_is_not_utf8_and_a_folder_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError):
        acknowledgements.read(path)
    with pytest.raises(SettingsError):
        acknowledgements.read(tmp_path)


def _add_some(path: Path, start: int) -> None:
    for number in range(start, start + 5):
        acknowledgements.add(path, seen(f"finding_{number}"))


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_add_some, args=(path, start)) for start in (0, 5, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert {row.finding for row in acknowledgements.read(path)} == {f"finding_{number}" for number in range(15)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it may not")
def test_a_folder_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(SettingsError, match="cannot be written"):
            acknowledgements.add(tmp_path / "a.toml", seen())
    finally:
        tmp_path.chmod(0o700)


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        acknowledgements.add(tmp_path / "file" / "a.toml", seen())
