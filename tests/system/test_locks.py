"""File locks exclude other holders, in the same process too, and waiting for them has a limit."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from xai_runbook.system.locks import locked, take_lock


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(BlockingIOError, match="lock is locked"), locked(path, wait_seconds=0):
            pass
        began = time.monotonic()
        with pytest.raises(BlockingIOError), locked(path, shared=True, wait_seconds=0.2):
            pass
        assert time.monotonic() - began >= 0.2
    with locked(path, wait_seconds=0):
        pass


def test_a_shared_lock_is_shared_and_can_become_an_exclusive_one(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", shared=True) as one:
        with locked(tmp_path / "lock", shared=True, wait_seconds=0):
            assert not take_lock(one)
        assert take_lock(one)
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", shared=True, wait_seconds=0):
            pass


def test_a_lock_goes_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from xai_runbook.system.locks import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); input()"
    )
    with Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait_seconds=0):
            pass
        holder.send_signal(signal.SIGKILL)
        with locked(tmp_path / "lock", wait_seconds=60):
            pass
