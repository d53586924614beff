"""Processes are started, limited in time and output, and ended with their process group."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.support.pace import stretched
from xai_runbook.system import processes

PYTHON = [sys.executable, "-I", "-c"]
CHILD = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
READY = "open('ready', 'w').close()\n"
SLEEP = "import time; time.sleep(600)\n"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment variables that mark a test's processes; what a failed test left is ended."""
    variables = {"XAI_TEST_OF_PROCESSES": str(tmp_path)}
    yield variables
    left = marked(variables)
    processes.end_pids(dict.fromkeys(left, signal.SIGKILL), grace_seconds=10)
    assert left == []


def marked(variables: dict[str, str]) -> list[int]:
    ((name, value),) = variables.items()
    return processes.pids_with_variable(name, value)


def started(code: str, folder: Path, mark: dict[str, str], *, ready: bool = True) -> Popen[bytes]:
    """Start a child in its own process group and wait until it is ready."""
    process = processes.start([*PYTHON, code], env=mark, cwd=folder, stdout="null", stderr="inherit", own_group=True)
    if ready:
        until((folder / "ready").exists)
    return process


# run


def test_a_program_is_given_its_environment_its_folder_and_an_empty_input(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "print(sorted(os.environ.items()), os.getcwd(), sys.stdin.read() == '', os.getsid(0) == os.getpid())"
    )
    done = processes.run([*PYTHON, code], env={"ONE": "1", "LC_ALL": "C.UTF-8"}, cwd=tmp_path, deadline_seconds=60)
    expected = f"[('LC_ALL', 'C.UTF-8'), ('ONE', '1')] {tmp_path} True True\n"
    assert done == processes.Completed(0, expected, "")


def test_both_streams_and_the_exit_code_are_returned(tmp_path: Path) -> None:
    code = "import sys; print('out'); sys.stderr.buffer.write(b'err \\xff'); sys.exit(7)"
    assert processes.run([*PYTHON, code], env={}, cwd=tmp_path, deadline_seconds=60) == (7, "out\n", "err \ufffd")
    ended = processes.run([*PYTHON, "import os; os.kill(os.getpid(), 9)"], env={}, cwd=tmp_path, deadline_seconds=60)
    assert ended.returncode == -signal.SIGKILL


def test_much_output_on_both_streams_is_read_while_it_runs(tmp_path: Path) -> None:
    code = "import sys; [(print('x' * 999), print('y' * 999, file=sys.stderr)) for _ in range(500)]"
    done = processes.run([*PYTHON, code], env={}, cwd=tmp_path, deadline_seconds=60)
    assert (len(done.stdout), len(done.stderr)) == (500_000, 500_000)


def test_a_deadline_ends_the_whole_group(tmp_path: Path, mark: dict[str, str]) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=f"{sys.executable} did not end within 1.5 s"):
        processes.run([*PYTHON, STUBBORN + CHILD + SLEEP], env=mark, cwd=tmp_path, deadline_seconds=1.5)
    assert time.monotonic() - began < stretched(10)
    until(lambda: marked(mark) == [])


def test_a_deadline_counts_where_the_streams_are_closed(tmp_path: Path, mark: dict[str, str]) -> None:
    with pytest.raises(TimeoutError):
        processes.run(
            [*PYTHON, "import os; os.close(1); os.close(2)\n" + SLEEP], env=mark, cwd=tmp_path, deadline_seconds=1
        )
    until(lambda: marked(mark) == [])


def test_too_much_output_ends_the_whole_group(tmp_path: Path, mark: dict[str, str]) -> None:
    endless = "while True: print('x' * 9999)"
    with pytest.raises(processes.OutputTooLong, match="wrote more than 100000 bytes"):
        processes.run([*PYTHON, CHILD + endless], env=mark, cwd=tmp_path, deadline_seconds=60, max_output_bytes=100_000)
    until(lambda: marked(mark) == [])


def test_what_a_program_leaves_behind_is_ended(tmp_path: Path, mark: dict[str, str]) -> None:
    leaving = CHILD.replace("]", "], stdout=-3, stderr=-3")
    assert processes.run([*PYTHON, leaving], env=mark, cwd=tmp_path, deadline_seconds=60).returncode == 0
    until(lambda: marked(mark) == [])


def test_ctrl_c_ends_the_whole_group(tmp_path: Path, mark: dict[str, str]) -> None:
    code = (
        "import signal, sys\n"
        "from xai_runbook.system import processes\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"processes.run({[*PYTHON, CHILD + READY + SLEEP]!r}, env={mark!r}, cwd={str(tmp_path)!r}, deadline_seconds=60)"
    )
    with Popen([sys.executable, "-c", code], stderr=PIPE, env=os.environ | mark) as process:
        until((tmp_path / "ready").exists)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate()[1]
    until(lambda: marked(mark) == [])


def test_a_program_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        processes.run(["/no/such/program"], env={}, cwd=tmp_path, deadline_seconds=10)


# start


def test_a_death_signal_comes_when_the_starter_is_killed(tmp_path: Path, mark: dict[str, str]) -> None:
    code = (
        "import os, signal\n"
        "from xai_runbook.system import processes\n"
        f"processes.start({[*PYTHON, READY + SLEEP]!r}, env={mark!r} | {{'PATH': os.environ['PATH']}},"
        f" cwd={str(tmp_path)!r}, stdout='null', stderr='null', own_group=True, death_signal=signal.SIGTERM)\n"
        "input()"
    )
    with Popen([sys.executable, "-c", code], stdin=PIPE) as process:
        until((tmp_path / "ready").exists)
        process.kill()
    until(lambda: marked(mark) == [])


def test_streams_are_what_is_asked_for(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.write(sys.stdin.read())"
    with (tmp_path / "log").open("wb") as log:
        process = processes.start(
            [*PYTHON, code], env={}, cwd=tmp_path, stdin="pipe", stdout=log, stderr="stdout", own_group=False
        )
    assert os.getsid(process.pid) == os.getsid(0)
    process.communicate(b"given")
    assert (tmp_path / "log").read_bytes() == b"given"


# end


def test_a_process_ends_by_the_signal_that_it_is_sent(tmp_path: Path, mark: dict[str, str]) -> None:
    process = started(READY + SLEEP, tmp_path, mark)
    assert processes.is_running(process) and not processes.ended_within(process, 0.05)
    processes.end(process, signal.SIGINT, grace_seconds=60)
    assert process.returncode == -signal.SIGINT and not processes.is_running(process)


def test_a_group_that_ignores_its_signal_is_killed(tmp_path: Path, mark: dict[str, str]) -> None:
    process = started(STUBBORN + CHILD + READY + SLEEP, tmp_path, mark)
    processes.end(process, grace_seconds=0.5, group=True)
    assert process.returncode == -signal.SIGKILL
    until(lambda: marked(mark) == [])


def test_what_a_process_left_in_its_group_ends_after_it(tmp_path: Path, mark: dict[str, str]) -> None:
    process = started(CHILD, tmp_path, mark, ready=False)
    assert processes.ended_within(process, 60) and len(marked(mark)) == 1
    processes.end(process, grace_seconds=60, group=True)
    assert process.returncode == 0
    until(lambda: marked(mark) == [])


def test_a_stopped_process_ends_by_its_signal(tmp_path: Path, mark: dict[str, str]) -> None:
    process = started(READY + SLEEP, tmp_path, mark)
    process.send_signal(signal.SIGSTOP)
    created = processes.created_at(process.pid) or 0.0
    until(lambda: processes.condition(process.pid, created) == "frozen")
    processes.end(process, grace_seconds=60)
    assert process.returncode == -signal.SIGTERM
    assert processes.condition(process.pid, created) == "ended"


def test_many_processes_share_one_time(tmp_path: Path, mark: dict[str, str]) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    children = [started(STUBBORN + READY + SLEEP, folder, mark) for folder in folders]
    began = time.monotonic()
    processes.end_all(dict.fromkeys(children, signal.SIGTERM), grace_seconds=1)
    assert time.monotonic() - began < stretched(2.5)
    assert [child.returncode for child in children] == [-signal.SIGKILL] * 3


# other processes


def test_a_zombie_and_a_reused_pid_are_not_alive(tmp_path: Path, mark: dict[str, str]) -> None:
    process = started(READY + SLEEP, tmp_path, mark)
    created = processes.created_at(process.pid)
    assert created is not None
    assert processes.is_alive(process.pid, created)
    assert not processes.is_alive(process.pid, created - 60.0), "another process that had this pid before"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{process.pid}").exists(), "still a zombie"
    assert not processes.is_alive(process.pid, created)
    process.wait()


def test_a_process_that_has_just_ended_does_not_run_though_its_waiter_was_not_scheduled_yet() -> None:
    with Popen(["sleep", "60"]) as process, process._waitpid_lock:  # type: ignore[attr-defined]
        assert processes.is_running(process)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: processes.condition(process.pid, processes.created_at(process.pid) or 0) == "ended")
        assert process.poll() is None, "the lock is held: poll cannot tell"
        assert not processes.is_running(process)


def test_processes_are_found_by_variable_and_folder_and_ended_by_pid(tmp_path: Path, mark: dict[str, str]) -> None:
    process = started(STUBBORN + READY + SLEEP, tmp_path, mark)
    assert marked(mark) == processes.pids_working_in(tmp_path) == [process.pid]
    processes.end_pids({process.pid: signal.SIGTERM, 2**22 + 1: signal.SIGTERM}, grace_seconds=0.5)
    assert processes.created_at(process.pid) is None
    assert process.wait() == -signal.SIGKILL


def test_reading_processes_does_not_import_subprocess(tmp_path: Path) -> None:
    code = (
        "import sys; from xai_runbook.system import processes; assert processes.created_at(1) is not None\n"
        "print('subprocess' in sys.modules)"
    )
    assert processes.run([sys.executable, "-c", code], env={}, cwd=tmp_path, deadline_seconds=60)[:2] == (0, "False\n")
