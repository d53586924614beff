"""`xai-runbook report`, `check` and `ack`: exit codes, the saved report, the screen."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.pace import stretched
from tests.support.samples import environment, finding, notebook, question, recorded
from xai_runbook.cli.main import main
from xai_runbook.reports.terminal import render
from xai_runbook.settings.models import Settings

ALERT = 'Finding(name="{0}", status=Status.ALERT, severity=Severity.{1}, summary="bad", targets=("n-1",), hint="mend")'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return environment(tmp_path)


def reported(folder: Path, *cells: dict[str, Any], more: tuple[str, ...] = ()) -> int:
    path = notebook(folder / "mine.ipynb", *cells)
    return main(["report", "--env", "plain", "--notebook", str(path), *more])


def latest(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "outputs/reports/latest/report.json").read_text())
    return record


def test_a_good_report_is_saved_and_exits_with_0(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = reported(tmp_path, question("a", 'ok("a", window)'), more=("--window", "6h"))
    record, output = latest(tmp_path), capsys.readouterr()
    assert code == 0, output.err
    assert (record["verdict"], record["complete"]) == ("ok", True)
    assert record["findings"][0]["summary"] == "6h"
    assert record["notebooks"][0]["path"] == "mine.ipynb"
    folder = tmp_path / "outputs/reports" / record["id"]
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "mine.ipynb", "report.json"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert output.out.splitlines()[-1] == f"ok: {folder / 'index.html'}"
    assert output.err == "", "no progress without a terminal"


def test_an_alert_decides_the_exit_code_until_it_is_acknowledged(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [question("disk_free", ALERT.format("disk_free", "HIGH")), question("b", 'ok("b")')]
    assert reported(tmp_path, *cells) == 1
    out = capsys.readouterr().out
    assert out.index("ALERT") < out.index("disk_free: bad") < out.index("next: mend") < out.index("ok        b")

    assert main(["ack", "lowdisk", "--until", "4h", "--why", "x", "--env", "plain"]) == 3
    assert "one of disk_free" in capsys.readouterr().err
    assert main(["ack", "b", "--until", "4h", "--why", "x", "--env", "plain"]) == 3
    assert "nothing to acknowledge" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["ack", "disk_free", "--env", "plain"])
    assert left.value.code == 3 and "needs --until" in capsys.readouterr().err
    assert main(["ack", "disk_free", "--until", "4h", "--why", "new disk at four", "--env", "plain"]) == 0
    assert main(["ack", "--list", "--env", "plain"]) == 0
    assert "new disk at four" in capsys.readouterr().out

    assert reported(tmp_path, *cells, more=("--json",)) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == "ok"
    assert record["findings"][0]["acknowledged"]["why"] == "new disk at four"
    assert "Acknowledged" in (tmp_path / "outputs/reports/latest/index.html").read_text()

    worse = [question("disk_free", ALERT.format("disk_free", "CRITICAL")), question("b", 'ok("b")')]
    assert reported(tmp_path, *worse) == 2
    assert main(["ack", "--remove", "disk_free", "--env", "plain"]) == 0
    assert main(["ack", "--remove", "disk_free", "--env", "plain"]) == 3


def test_a_failed_notebook_is_reported_and_never_ok(settings: Settings, tmp_path: Path) -> None:
    assert reported(tmp_path, question("a", "1 / 0"), question("b", 'ok("b")')) == 3
    record = latest(tmp_path)
    assert (record["verdict"], record["complete"], record["notebooks"][0]["status"]) == ("unknown", False, "failed")
    assert {row["name"]: row["status"] for row in record["findings"]} == {"a": "unknown", "b": "ok"}
    assert record["notebooks"][0]["error"]


@pytest.mark.parametrize(
    "more",
    [
        ("-p", "no_such=1"),
        ("-p", "import os; os.system('x')=1"),
        ("-p", "window"),
        ("-p", "environment=other"),
        ("--window", "yesterday"),
        ("-p", "window=yesterday"),
        ("-p", "window=6h", "-p", "window=12h"),
        ("--timeout", "0s"),
        ("--cell-timeout", "soon"),
        ("--notebook", "none_such"),
        ("--notebook", "https://example.invalid/x.ipynb"),
        ("--jobs", "0"),
        ("--notebook", "mine", "--all"),
        ("--env", "nowhere"),
    ],
)
def test_invalid_arguments_exit_with_3_and_leave_no_report(
    settings: Settings, tmp_path: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = reported(tmp_path, question("a", 'ok("a")'), more=more)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else -1
    assert code == 3
    assert capsys.readouterr().err
    assert not list((tmp_path / "outputs").glob("reports/*")), "nothing half done"


def test_two_notebooks_of_one_name_are_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = notebook(tmp_path / "other" / "mine.ipynb", question("a", 'ok("a")'))
    assert reported(tmp_path, question("a", 'ok("a")'), more=("--notebook", str(other))) == 3


def test_an_unusable_output_folder_is_reported_before_anything_runs(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    assert reported(tmp_path, question("a", 'ok("a")'), more=("--out", str(tmp_path / "file" / "x"))) == 3
    assert time.monotonic() - started < stretched(2)
    assert "cannot be saved" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it may not")
def test_a_read_only_output_folder_is_reported(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert reported(tmp_path, question("a", 'ok("a")'), more=("--out", str(tmp_path / "closed"))) == 3


def test_an_invalid_acknowledgements_file_is_reported_before_anything_runs(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acknowledgements.toml").write_text("[[acknowledgement]]\n")
    assert reported(tmp_path, question("a", 'ok("a")')) == 3
    assert main(["check", "--env", "plain"]) == 3
    assert "acknowledgements.toml" in capsys.readouterr().err


def test_ack_without_a_report_says_what_to_do(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ack", "disk_free", "--until", "4h", "--why", "x", "--env", "plain"]) == 3
    assert "xai-runbook report first" in capsys.readouterr().err


def test_an_interrupted_report_is_saved_and_exits_with_130(settings: Settings, tmp_path: Path) -> None:
    path = notebook(
        tmp_path / "mine.ipynb",
        question("a", 'ok("a")'),
        question(
            "b",
            f'from pathlib import Path\nPath({str(tmp_path / "here")!r}).touch()\nimport time\ntime.sleep(60)\nok("b")',
        ),
    )
    argv = [sys.executable, "-m", "xai_runbook.cli.main", "report", "--env", "plain", "--notebook", str(path)]
    running = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while not list(tmp_path.rglob("here")) and time.monotonic() < end and running.poll() is None:
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 130, err
    record = latest(tmp_path)
    assert (record["verdict"], record["complete"]) == ("unknown", False)
    assert record["notebooks"][0]["status"] == "incomplete"
    assert "a" in {row["name"] for row in record["findings"] if row["status"] == "ok"}
    assert "UNKNOWN" in out


def test_a_check_without_configured_parts_is_not_ok(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--env", "plain", "--json"]) == 3, "no finding is no health"
    record = json.loads(capsys.readouterr().out)
    assert (record["schema"], record["verdict"], record["findings"]) == ("xai-runbook/report/1", "unknown", [])
    assert record["complete"] is True
    assert {"prometheus", "nodes", "database", "cache"} <= set(record["not_configured"])


def test_a_check_names_the_parts_that_do_not_answer(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "down.toml").write_text(
        '[prometheus]\nurl = "http://127.0.0.1:9"\n[[nodes.node]]\nname = "n-1"\nurl = "http://127.0.0.1:9"\n'
        '[database]\nhost = "127.0.0.1"\nport = 9\n'
    )
    started = time.monotonic()
    assert main(["check", "--env", "down", "--json"]) == 2
    assert time.monotonic() - started < stretched(20)
    record = json.loads(capsys.readouterr().out)
    status = {row["name"]: row["status"] for row in record["findings"]}
    assert status["database_reachable"] == status["prometheus_reachable"] == status["node_reachable"] == "alert"
    assert status["block_growth"] == status["pool"] == "unknown"
    assert "ok" not in status.values()
    assert "cache" in record["not_configured"]


def test_a_check_of_the_sandbox_is_ok_and_takes_names(
    sandbox: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", "block_growth", "pool", "--env", "sandbox", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in record["findings"]} == {"block_growth", "pool"}
    assert record["simulated"] == ["nodes", "grafana"]
    assert main(["check", "block_grouth", "--env", "sandbox"]) == 3
    assert "block_growth" in capsys.readouterr().err


def test_the_screen_is_worst_first_and_fits_its_width(settings: Settings) -> None:
    made = recorded(
        settings,
        finding("a", "ok", summary="x" * 200),
        finding("b", "unknown"),
        finding("c", severity="critical", targets=("n-1", "n-2"), hint="do " * 60),
    )
    for width in (30, 60, 120):
        lines = render(made, width=width).splitlines()
        assert max(map(len, lines)) <= width
        text = "\n".join(lines)
        places = [text.index(words) for words in ("CRITICAL", "critical  c", "unknown   b", "ok        a")]
        assert places == sorted(places)


def test_the_screen_shrinks_to_the_height_and_keeps_the_worst(settings: Settings) -> None:
    many = [finding(f"well_{n}", "ok") for n in range(20)]
    made = recorded(settings, finding("bad", hint="mend it"), *many)
    assert len(render(made, width=80).splitlines()) > 20
    short = render(made, width=80, height=12).splitlines()
    assert len(short) < 12
    assert any("mend it" in line for line in short)
    assert any("well_19" in line for line in short), "shrunk, not hidden"
    well = [finding(f"quite_a_long_name_{n}", "ok", section="03_database") for n in range(60)]
    counted = render(recorded(settings, *(finding(f"bad_{n}", hint="mend it") for n in range(7)), *well), height=24)
    assert len(counted.splitlines()) < 24
    assert counted.count("mend it") == 7 and "ok        60 in 03_database" in counted
    worse = recorded(settings, *(finding(f"bad_{n}", hint="mend it") for n in range(15)))
    assert len(render(worse, width=80, height=24).splitlines()) < 24
    worst = render(recorded(settings, *(finding(f"bad_{n:02}") for n in range(40)), *well), height=24).splitlines()
    assert len(worst) < 24 and "bad_00" in worst[1] and "more lines" in worst[-1]


def test_untrusted_text_cannot_act_on_the_terminal(settings: Settings) -> None:
    bad = "\x1b[2J\x1b]0;owned\x07\r\n\u202e"
    made = recorded(settings, finding("a", summary=bad, targets=(bad,), hint=bad), error=bad, status="failed")
    assert not any(ord(character) < 32 and character != "\n" for character in render(made))
    assert "\u202e" not in render(made)


def test_the_screen_shows_production_and_incomplete_reports(tmp_path: Path, settings: Settings) -> None:
    live = environment(tmp_path, "live", production="true")
    text = render(recorded(live, finding("a", "ok"), status="failed", error="the kernel died"))
    assert "UNKNOWN · PRODUCTION live" in text
    assert "incomplete health_report: the kernel died" in text


def on_a_terminal(folder: Path, **variables: str) -> str:
    """Return what `check` writes to a terminal."""
    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "xai_runbook.cli.main", "check", "--env", "plain"]
    base = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    environ = {**base, "TERM": "xterm", **variables}
    subprocess.run(argv, stdout=slave, stderr=slave, stdin=slave, env=environ, cwd=folder, timeout=60, check=False)
    os.close(slave)
    output = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    os.close(master)
    return output.decode()


def test_colours_are_only_for_terminals_that_want_them(settings: Settings, tmp_path: Path) -> None:
    assert "\x1b[" in on_a_terminal(tmp_path)
    assert "\x1b[" not in on_a_terminal(tmp_path, NO_COLOR="1")
    assert "\x1b[" not in on_a_terminal(tmp_path, TERM="dumb")


@pytest.mark.parametrize("command", ["report", "check", "ack"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"xai-runbook {command}" in capsys.readouterr().out.split("examples:")[1]
