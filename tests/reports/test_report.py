from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.samples import AT, environment, finding, recorded, result
from xai_runbook.errors import ReportError
from xai_runbook.model.findings import Verdict
from xai_runbook.reports.report import folder_of, new_id, open_folder, record, save, saved_reports
from xai_runbook.reports.runner.result import CellAnswer
from xai_runbook.settings.models import PARTS, Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    return environment(tmp_path, production="true", simulated='["nodes"]')


def test_its_json_is_the_schema(settings: Settings) -> None:
    made = recorded(settings, finding("a", "ok"), finding("b", targets=("n",), hint="do"))
    content = json.loads(json.dumps(made.to_json()))
    assert content["schema"] == "xai-runbook/report/1"
    assert content.keys() >= {
        "id",
        "environment",
        "started_at",
        "finished_at",
        "verdict",
        "complete",
        "not_configured",
        "findings",
        "notebooks",
        "production",
        "simulated",
        "tool",
    }
    assert content["environment"] == "plain"
    assert content["production"] is True
    assert content["simulated"] == ["nodes"]
    assert content["verdict"] == "alert"
    assert content["complete"] is True
    assert content["not_configured"] == list(PARTS)
    assert [row["name"] for row in content["findings"]] == ["b", "a"], "worst first"
    assert content["findings"][0].keys() == {
        "name",
        "section",
        "status",
        "severity",
        "summary",
        "targets",
        "hint",
        "observed_at",
        "acknowledged",
    }
    assert content["notebooks"] == [
        {"name": "health_report", "path": "health_report.ipynb", "status": "completed", "seconds": 1.25, "error": None}
    ]


def test_it_is_complete_only_if_every_notebook_completed_and_every_question_was_answered(settings: Settings) -> None:
    def complete(*results: object, declared: dict[str, list[str]]) -> bool:
        return record(settings, results, id_="i", started_at=AT, declared=declared).complete  # type: ignore[arg-type]

    good = result(finding("a", "ok"), name="one")
    assert complete(good, declared={"one": ["a"]})
    assert not complete(good, declared={"one": ["a", "b"]}), "b has no answer"
    assert not complete(good, declared={"one": ["a"], "two": []}), "two did not run"
    assert not complete(replace(good, status="failed"), declared={"one": ["a"]})
    assert not complete(replace(good, status="incomplete"), declared={"one": ["a"]})
    assert not complete(declared={})
    skipped = CellAnswer(name="b", section="s", finding=None, not_configured="cache")
    assert complete(replace(good, answers=(*good.answers, skipped)), declared={"one": ["a", "b"]})


def test_incomplete_is_never_ok(settings: Settings) -> None:
    made = recorded(settings, finding("a", "ok"), status="incomplete", error="the kernel died")
    assert made.verdict is Verdict.UNKNOWN
    assert made.to_json()["notebooks"][0]["error"] == "the kernel died"


def test_of_two_findings_of_one_name_the_worse_counts(settings: Settings) -> None:
    one, two = result(finding("a", "ok"), name="one"), result(finding("a", "unknown"), name="two")
    made = record(settings, [one, two], id_="i", started_at=AT, declared={"one": ["a"], "two": ["a"]})
    assert [(row.name, str(row.status)) for row in made.findings] == [("a", "unknown")]


def test_its_id_sorts_by_time_and_names_the_environment() -> None:
    assert re.fullmatch(
        r"20261125T001500Z-sandbox-[0-9a-f]{4}", new_id("sandbox", datetime(2026, 11, 25, 0, 15, tzinfo=UTC))
    )


def test_it_is_kept_private_and_latest_points_at_the_newest(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "reports"
    for id_ in ("20261125T001500Z-plain-ab12", "20261125T002000Z-plain-cd34"):
        open_folder(folder, id_)
        page = save(replace(recorded(settings, finding("a")), id=id_), "<p>page</p>", folder)
        assert page == folder / id_ / "index.html"
    latest = folder / "latest"
    assert latest.is_symlink()
    assert str(latest.readlink()) == "20261125T002000Z-plain-cd34", "relative: the folder may be moved"
    assert json.loads((latest / "report.json").read_text())["id"].endswith("cd34")
    for place in (folder.parent, folder, latest.resolve()):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700, place
    for name in ("index.html", "report.json"):
        assert stat.S_IMODE((latest / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in latest.iterdir()) == ["index.html", "report.json"], "nothing half done"
    assert [report["id"][-4:] for report in saved_reports(folder, "plain")] == ["cd34", "ab12"]
    assert list(saved_reports(folder, "other")) == []


def test_the_folder_is_that_of_the_settings_by_default(settings: Settings, tmp_path: Path) -> None:
    assert folder_of(settings) == tmp_path / "outputs" / "reports"
    assert folder_of(settings, "elsewhere") == Path("elsewhere")


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot be saved"):
        open_folder(tmp_path / "file" / "reports", "id")


_TOO_SMALL = """
import resource, sys
from pathlib import Path
from xai_runbook.reports.report import open_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    open_folder(Path(sys.argv[1]), "id")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_disk_space_nothing_is_started_and_nothing_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TOO_SMALL, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("ReportError the report cannot be saved"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_when_it_cannot_be_written_latest_stays_and_no_record_is_left(settings: Settings, tmp_path: Path) -> None:
    made = recorded(settings, finding("a"))
    first = replace(made, id="20261125T001400Z-plain-0001")
    open_folder(tmp_path, first.id)
    save(first, "page", tmp_path)
    place = open_folder(tmp_path, made.id)
    (place / "report.json").mkdir()  # what is in the way cannot be replaced
    with pytest.raises(ReportError, match="cannot be saved"):
        save(made, "page", tmp_path)
    assert str((tmp_path / "latest").readlink()) == first.id
    assert not (place / "index.html").exists()


def test_unreadable_reports_are_skipped(settings: Settings, tmp_path: Path) -> None:
    for name, text in (("1", "{"), ("2", "[]"), ("3", '{"schema": "another"}'), ("4", "\udcff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "5").write_text("a file")
    assert list(saved_reports(tmp_path, "plain")) == []
    assert list(saved_reports(tmp_path / "none", "plain")) == []
