"""Reports, checks and acknowledgements made from Python: what the commands do, without a command line."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.pace import stretched
from tests.support.samples import environment, notebook, question
from xai_runbook import check, connect, make_report
from xai_runbook.environment import Environment
from xai_runbook.errors import InputError, ReportError, SettingsError
from xai_runbook.model.findings import Status, Verdict
from xai_runbook.reports.acknowledgements import acknowledge
from xai_runbook.reports.make import ReportInterrupted, ReportNotSaved
from xai_runbook.reports.notebooks.cells import names
from xai_runbook.reports.runner.result import Event
from xai_runbook.settings.models import Settings

ALERT = 'Finding(name="disk_free", status=Status.ALERT, severity=Severity.HIGH, summary="bad", targets=("n-1",))'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    return environment(tmp_path)


def written(folder: Path, *cells: dict[str, Any], name: str = "mine") -> Path:
    parameters = 'environment = ""\nwindow = "24h"\nlimit = 0.5'
    return notebook(folder / f"{name}.ipynb", *cells, parameters=parameters)


def test_a_report_comes_with_verdict_exit_code_folder_page_and_findings(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, question("a", 'ok("a", f"{environment} {window} {limit + 1}")'))
    events: list[Event] = []
    report = make_report(
        "plain", [path], window="6h", parameters={"limit": 2}, folder=tmp_path / "mine", jobs=1, progress=events.append
    )
    assert (report.verdict, report.exit_code, report.record.complete) == (Verdict.OK, 0, True)
    assert [(found.name, found.summary) for found in report.findings] == [("a", "plain 6h 3.0")]
    assert report.folder.parent == tmp_path / "mine"
    assert report.page == report.folder / "index.html"
    assert sorted(kept.name for kept in report.folder.iterdir()) == ["index.html", "mine.ipynb", "report.json"]
    assert (tmp_path / "mine/latest").resolve() == report.folder
    assert json.loads((report.folder / "report.json").read_text()) == report.record.to_json()
    cells = [event.cell for event in events]
    assert (cells[0], cells[-2:]) == ("parameters", ["a", ""])
    assert events[-1].result and events[-1].result.status == "completed"
    assert tuple(capfd.readouterr()) == ("", ""), "a function prints nothing"


def test_an_environment_may_be_the_path_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.delenv("XAI_RUNBOOK_CONFIG")
    path = written(tmp_path, question("a", 'ok("a", env.name)'))
    monkeypatch.chdir(tmp_path)
    assert make_report("./plain.toml", [path]).findings[0].summary == "plain"
    assert check("./plain.toml", notebook=health(tmp_path, 'ok("a", env.name)')).findings[0].summary == "plain"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"environment": "nowhere"}, SettingsError, "there is no environment 'nowhere'"),
        ({"notebooks": ["none_such"]}, InputError, "there is no notebook 'none_such'"),
        ({"notebooks": []}, InputError, "there are no notebooks"),
        ({"window": "yesterday"}, InputError, "yesterday"),
        ({"parameters": {"window": "yesterday"}}, InputError, "yesterday"),
        ({"parameters": {"no_such": 1}}, InputError, "no notebook declares a parameter 'no_such'"),
        ({"parameters": {"environment": "other"}}, InputError, "cannot be set as a parameter"),
        ({"parameters": {"limit": [1]}}, InputError, "parameter limit cannot be"),
        ({"timeout": "0s"}, InputError, "deadline"),
        ({"cell_timeout": "soon"}, InputError, "soon"),
        ({"jobs": 0}, InputError, "jobs"),
        ({"folder": "file/x"}, ReportError, "cannot be saved"),
    ],
)
def test_invalid_arguments_raise_an_error_and_leave_no_report(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    path = written(tmp_path, question("a", 'ok("a")'))
    with pytest.raises(error, match=re.escape(message)):
        make_report(**{"environment": "plain", "notebooks": [path]} | wrong)
    assert not list(tmp_path.glob("outputs/reports/*"))


def test_a_notebook_that_did_not_run_to_its_end_is_unknown(settings: Settings, tmp_path: Path) -> None:
    broken = written(tmp_path, question("a", "import os\nos.kill(os.getppid(), 9)"), name="broken")
    whole = written(tmp_path, question("b", 'ok("b")'), name="whole")
    report = make_report("plain", [broken, whole])
    assert (report.verdict, report.exit_code, report.record.complete) == (Verdict.UNKNOWN, 3, False)
    assert {found.name: found.status for found in report.findings} == {"a": Status.UNKNOWN, "b": Status.OK}
    assert [result.status for result in report.record.notebooks] == ["incomplete", "completed"]
    assert report.page.is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_report_raises_and_has_the_findings_until_then(
    settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    path = written(tmp_path, question("a", 'ok("a")'), question("b", 'import time\ntime.sleep(600)\nok("b")'))

    def stop(event: Event) -> None:
        if event.cell == "b":
            signal.raise_signal(number)

    with pytest.raises(ReportInterrupted) as interrupted:
        make_report("plain", [path], progress=stop)
    assert isinstance(interrupted.value, KeyboardInterrupt), "no loop that catches errors goes on after Ctrl-C"
    assert interrupted.value.exit_code == 128 + number
    report = interrupted.value.report
    assert (report.verdict, report.record.complete) == (Verdict.UNKNOWN, False)
    assert {found.name: found.status for found in report.findings} == {"a": Status.OK, "b": Status.UNKNOWN}
    assert report.page.is_file()


def test_a_report_that_cannot_be_written_does_not_hide_what_was_found(settings: Settings, tmp_path: Path) -> None:
    path = written(tmp_path, question("disk_free", ALERT))

    def obstruct(event: Event) -> None:
        if event.result:
            (next(tmp_path.glob("outputs/reports/*")) / "index.html").mkdir()

    with pytest.raises(ReportNotSaved, match="cannot be saved") as failed:
        make_report("plain", [path], progress=obstruct)
    assert failed.value.record
    assert failed.value.record.verdict is Verdict.ALERT
    assert not list(tmp_path.glob("outputs/reports/latest"))


def test_an_acknowledged_finding_does_not_count(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report"):
        acknowledge("plain", "disk_free", until="4h", why="new disk at four")
    path = written(tmp_path, question("disk_free", ALERT))
    assert make_report("plain", [path], folder=tmp_path / "mine").exit_code == 1
    with pytest.raises(InputError, match="Try: disk_free"):
        acknowledge("plain", "disk", until="4h", why="x", folder=tmp_path / "mine")
    kept = acknowledge("plain", "disk_free", until="4h", why="new disk at four", folder=tmp_path / "mine")
    assert (kept.finding, kept.targets) == ("disk_free", ("n-1",))
    found = check("plain", notebook=path)
    assert found.verdict is Verdict.OK
    assert found.findings[0].acknowledged


def health(folder: Path, *sources: str) -> Path:
    """A notebook with the questions a, b, ... of these sources."""
    return written(folder, *(question("abc"[n], source) for n, source in enumerate(sources)), name="health")


def test_a_check_comes_with_verdict_and_findings_and_writes_nothing(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = health(tmp_path, 'ok("a", env.name)', ALERT.replace("disk_free", "b"), 'ok("c")')
    found = check("plain", notebook=path)
    assert (found.verdict, found.verdict.exit_code, found.complete) == (Verdict.ALERT, 1, True)
    assert [one.name for one in found.findings] == ["b", "a", "c"], "worst first"
    assert [one.name for one in check("plain", ["a", "c"], notebook=path).findings] == ["a", "c"]
    assert not (tmp_path / "outputs").exists()
    assert tuple(capfd.readouterr()) == ("", "")


def test_a_check_refuses_invalid_arguments(settings: Settings, tmp_path: Path) -> None:
    path = health(tmp_path, 'ok("a")')
    with pytest.raises(SettingsError, match="there is no environment 'nowhere'"):
        check("nowhere", notebook=path)
    with pytest.raises(InputError, match="there is no question 'block'"):
        check("plain", ["block"], notebook=path)
    with pytest.raises(InputError, match="soon"):
        check("plain", timeout="soon", notebook=path)
    with pytest.raises(InputError, match=r"gone\.ipynb"):
        check("plain", notebook=tmp_path / "gone.ipynb")
    (tmp_path / "acknowledgements.toml").write_text("[[acknowledgement]]\n")
    with pytest.raises(SettingsError, match="acknowledgement 1"):
        check("plain", notebook=path)


def test_a_check_that_does_not_end_in_time_is_unknown(settings: Settings, tmp_path: Path) -> None:
    found = check("plain", timeout="1s", notebook=health(tmp_path, 'import time\ntime.sleep(20)\nok("a")', 'ok("b")'))
    assert (found.verdict, found.complete) == (Verdict.UNKNOWN, False)
    assert [(one.name, one.status) for one in found.findings] == [("a", Status.UNKNOWN), ("b", Status.OK)]


def test_a_check_of_an_environment_uses_its_settings_and_leaves_its_handles_alone(
    settings: Settings, tmp_path: Path
) -> None:
    # no file has this name: the settings can only be the Environment's own
    env = Environment(settings.model_copy(update={"name": "elsewhere"}))
    path = health(tmp_path, 'env.database\nok("a", f"{environment} {env.name}")')
    found = check(env, notebook=path)
    assert found.environment == "elsewhere"
    assert found.findings[0].summary == "elsewhere elsewhere"
    assert "database" not in vars(env), "the check uses handles of its own, because it closes them"
    assert check(connect("plain"), notebook=path).findings[0].summary == "plain plain"


def test_ctrl_c_ends_a_check(settings: Settings, tmp_path: Path) -> None:
    path = health(tmp_path, 'import time\ntime.sleep(20)\nok("a")')
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    started = time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            check("plain", notebook=path)
    finally:
        timer.join()
    assert time.monotonic() - started < stretched(5)


def test_the_example_in_the_documents_runs(
    settings: Settings, tmp_path: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (checkout / "docs" / "production.md").read_text(), re.DOTALL)
    assert "health_report" in names()
    exec(example.replace('"production"', '"plain"'), {})
    page = tmp_path / "outputs/reports/latest/index.html"
    assert capsys.readouterr().out.split() == ["unknown", str(page.resolve())], "no part is configured"
