"""The command line: usage errors exit with 3, every command shows an example, misspelt names are corrected."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.support.fresh import HEAVY, imported
from tests.support.pace import stretched
from xai_runbook.cli.main import Parser, main, parser
from xai_runbook.errors import SettingsError

COMMANDS = ["ping", "report", "check", "ack", "sandbox", "coverage", "completion"]


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xai_runbook.cli.main", *arguments], capture_output=True, text=True, timeout=60, **more
    )


def every_parser(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    inner = [
        deeper
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for child in action.choices.values()
        for deeper in every_parser(child)
    ]
    return [parser, *inner]


def test_every_command_has_an_example() -> None:
    parsers = every_parser(parser())
    assert {f"xai-runbook {name}" for name in COMMANDS} <= {each.prog for each in parsers}
    for each in parsers:
        assert "xai-runbook " in (each.epilog or ""), f"{each.prog} --help shows no example"
        assert each.format_help()


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["ping", "--nonsense"], ["sandbox"], ["sandbox", "nonsense"], ["report", "--jobs", "x"],
     ["ping", "extra"]],
)  # fmt: skip
def test_a_usage_error_is_exit_code_3(arguments: list[str]) -> None:
    """Not argparse's 2, which means a critical alert here."""
    done = run(*arguments)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["ping", "--nonsense"], "ping"),
        (["ping", "extra"], "ping"),
        (["sandbox", "break", "x", "--nonsense"], "sandbox break"),
        (["journal", "show"], "journal show"),
        (["journal", "show", "x"], "journal show"),
        (["journal"], "journal"),
        (["query", "up", "--step", "1m"], "query"),
        (["ack", "disk_free"], "ack"),
        (["plan", "show"], "plan show"),
        (["plan", "list", "extra"], "plan list"),
        (["plan", "nothing"], "plan"),
        (["plan", "database.terminate", "--pids", "x"], "plan database.terminate"),
        (["sandbox", "run"], "sandbox run"),
        (["nonsense"], ""),
    ],
)
def test_a_usage_error_shows_the_usage_of_its_command(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"usage: xai-runbook {command}".rstrip() + " [-h]")
    assert lines[-1].startswith(f"xai-runbook {command}".rstrip() + ": ")


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["chekc"], "check"),
        (["sandbox", "stauts"], "status"),
        (["check", "--jsno"], "--json"),
        (["plan", "lst"], "list"),
        (["plan", "database.terminat"], "database.terminate"),
        (["ping", "--env", "sandbx"], "sandbox"),
        (["--env", "sandbx", "ping"], "sandbox"),
        (["report", "--env", "mine", "--notebook", "03_databse"], "03_database"),
        (["journal", "reconcile", "1", "--as", "don"], "done"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_known_one(
    arguments: list[str],
    known: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    (tmp_path / "mine.toml").write_text("")
    try:
        code: object = main(arguments)
    except SystemExit as left:
        code = left.code
    assert code == 3
    assert f"Try: {known}" in capsys.readouterr().err


def test_the_environment_is_taken_before_and_after_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    (tmp_path / "mine.toml").write_text("")
    for arguments in (["--env", "mine", "ping"], ["ping", "--env", "mine"], ["--env", "mine", "ping", "--env", "mine"]):
        assert main(arguments) == 0
        assert "environment mine" in capsys.readouterr().out
    for arguments, message in (
        (["--env", "mine", "ping", "--env", "sandbox"], "xai-runbook ping: --env is given twice: mine and sandbox"),
        (["--env", "mine", "plan", "database.cancel", "--pids", "1", "--env", "x"], "--env is given twice: mine and x"),
        (["--env", "mine", "coverage"], "xai-runbook coverage: this command takes no --env"),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 3 and message in capsys.readouterr().err


def test_a_change_is_planned_in_the_environment_before_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_CONFIG", str(tmp_path))
    (tmp_path / "mine.toml").write_text("")
    for before in (["--env", "mine", "plan"], ["plan", "--env", "mine"]):
        assert main([*before, "database.terminate", "--pids", "1"]) == 3
        assert "database is not configured in environment mine" in capsys.readouterr().out


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"xai-runbook {metadata.version('xai_runbook')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"xai-runbook {command}" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    """`xai-runbook --help` is typed at 3 a.m. over ssh."""
    code = "from xai_runbook.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert imported(code) & set(HEAVY) == set()


@pytest.mark.parametrize("command", [["ping"], ["check"], ["report"]])
def test_an_unknown_environment(command: list[str]) -> None:
    done = run(*command, "--env", "no-such-environment")
    assert done.returncode == 3
    assert "there is no environment 'no-such-environment'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_text_of_an_error_is_inert(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise SettingsError("bad\x1b]0;x\x07", on="\u202efile", hint="look")

    whole = Parser()
    whole.set_defaults(run=fail)
    monkeypatch.setattr("xai_runbook.cli.main.parser", lambda: whole)
    assert main([]) == 3
    error_text = capsys.readouterr().err
    assert error_text.startswith("xai-runbook: bad")
    assert error_text.endswith("Try: look\n")
    assert not {"\x1b", "\x07", "\u202e"} & set(error_text)


def test_a_usage_error_is_inert() -> None:
    done = run("ping", "--\x1b[2Jx")
    assert done.returncode == 3
    assert "\x1b" not in done.stderr


def test_a_closed_pipe() -> None:
    """`xai-runbook coverage | head -1` prints no error, and does not exit with 0."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "xai_runbook.cli.main", "coverage"],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(("to", "code"), [(">/dev/full", 3), (">&-", 0)])
def test_an_answer_that_cannot_be_written(to: str, code: int) -> None:
    """A full disk is neither an alert (1) nor a traceback; a closed stdout wants no answer."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m xai_runbook.cli.main coverage {to}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr == ("xai-runbook: the answer cannot be written: No space left on device\n" if code else "")


def test_ctrl_c(tmp_path: Path) -> None:
    """Exits with 130 and one line, here while it waits for a database that never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (tmp_path / "slow.toml").write_text(
            f'[database]\nhost = "127.0.0.1"\nport = {port}\nsslmode = "disable"\ntimeout = "30s"'
        )
        with subprocess.Popen(
            [sys.executable, "-m", "xai_runbook.cli.main", "ping", "--env", "slow"],
            env=os.environ | {"XAI_RUNBOOK_CONFIG": str(tmp_path)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            listener.settimeout(120)
            peer, _ = listener.accept()  # it asks now
            with peer:
                time.sleep(0.2)
                process.send_signal(signal.SIGINT)
                started = time.monotonic()
                _, error_text = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error_text == "xai-runbook: interrupted\n"
    assert time.monotonic() - started < stretched(5)
