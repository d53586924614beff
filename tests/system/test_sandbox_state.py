"""The sandbox's run folder, and its state file with and without a supervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from xai_runbook.system import processes, sandbox_state
from xai_runbook.system.files import write_atomically


def described(pid: int, **more: Any) -> dict[str, Any]:
    return {
        "schema": sandbox_state.SCHEMA,
        "pid": pid,
        "create_time": processes.created_at(pid) or 0.0,
        "ready_at": "2026-01-01T00:00:00+00:00",
        "parts": {},
    } | more


def test_the_run_folder_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XAI_RUNBOOK_SANDBOX", str(tmp_path / "here"))
    assert sandbox_state.run_folder() == tmp_path / "here"


def test_the_run_folder_follows_xdg_and_ignores_a_relative_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XAI_RUNBOOK_SANDBOX", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert sandbox_state.run_folder() == tmp_path / "state" / "xai-runbook" / "sandbox"
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert sandbox_state.run_folder() == tmp_path / ".local" / "state" / "xai-runbook" / "sandbox"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert sandbox_state.cache_folder() == tmp_path / ".cache" / "xai-runbook"


def test_a_written_state_is_read_back_and_private(tmp_path: Path) -> None:
    sandbox_state.write(tmp_path, described(os.getpid(), faults=["api-slow"]))
    found = sandbox_state.read(tmp_path)
    assert found is not None
    assert found["faults"] == ["api-slow"]
    assert (tmp_path / sandbox_state.STATE_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [sandbox_state.STATE_FILE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 99}', b"\xff\xfe"])
def test_an_invalid_state_file_is_no_sandbox(tmp_path: Path, content: bytes) -> None:
    (tmp_path / sandbox_state.STATE_FILE).write_bytes(content)
    assert sandbox_state.read(tmp_path) is None


def test_no_folder_is_no_sandbox(tmp_path: Path) -> None:
    assert sandbox_state.read(tmp_path / "nowhere") is None


def test_a_starting_sandbox_is_not_up_yet(tmp_path: Path) -> None:
    sandbox_state.write(tmp_path, described(os.getpid(), ready_at=None))
    assert sandbox_state.read(tmp_path) is None
    assert sandbox_state.read_any(tmp_path) is not None


def test_a_dead_supervisor_is_no_sandbox(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        sandbox_state.write(tmp_path, described(process.pid))
        assert sandbox_state.read(tmp_path) is not None
    assert sandbox_state.read(tmp_path) is None


def test_a_reader_never_sees_half_a_state(tmp_path: Path) -> None:
    sizes = (10, 200_000)
    done = threading.Event()

    def write() -> None:
        for n in range(60):
            write_atomically(tmp_path / "state.json", json.dumps({"text": "x" * sizes[n % 2]}).encode())
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    read = 0
    while not done.is_set():
        if (tmp_path / "state.json").exists():
            assert len(json.loads((tmp_path / "state.json").read_bytes())["text"]) in sizes
            read += 1
    thread.join()
    assert read > 0


def test_reading_the_state_costs_few_imports() -> None:
    listed = (
        "import sys; before = set(sys.modules); import xai_runbook.system.sandbox_state; "
        "print(*set(sys.modules) - before)"
    )
    loaded = subprocess.run([sys.executable, "-c", listed], check=True, capture_output=True, text=True, timeout=30)
    costly = {"psycopg", "pydantic", "tempfile", "subprocess", "asyncio", "tornado", "numpy"}
    assert not costly & set(loaded.stdout.split())
