"""Provoked load as a program that always ends: ``python -m xai_runbook.sandbox.faults.load cpu|memory|disk|end ...``.

It dies with the process that started it, ends after --seconds at the latest, and keeps a minimum of memory and disk
free on this machine. What it holds (memory, a file without a name) is freed by the kernel when it ends.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil

from xai_runbook.sandbox import loopback
from xai_runbook.system import processes
from xai_runbook.system.parent_death import die_with_parent

_NICE = 10
_CHUNK_BYTES = 16 * 2**20
_LONGEST_SECONDS = 3600


def main(arguments: list[str] | None = None) -> int:
    """Run one load to its end; return 1 if too little would stay free or a failure ended it early."""
    parser = argparse.ArgumentParser(prog="python -m xai_runbook.sandbox.faults.load", description=__doc__)
    kinds = parser.add_subparsers(dest="what", required=True)
    for what in ("cpu", "memory", "disk"):
        kind = kinds.add_parser(what)
        kind.add_argument("--seconds", type=int, required=True)
        if what == "cpu":
            kind.add_argument("--workers", type=int, default=1)
            continue
        kind.add_argument("--until", type=int, required=True, help="bytes that the whole sandbox should use")
        kind.add_argument("--floor", type=int, required=True, help="bytes that must stay free on this machine")
        kind.add_argument("--quota-url", required=True)
        if what == "disk":
            kind.add_argument("--folder", type=Path, required=True)
    end = kinds.add_parser("end")
    end.add_argument("pid", type=int)
    end.add_argument("started", type=float, help="when the process was created, in seconds since boot")
    options = parser.parse_args(arguments)
    if options.what == "end":
        return _end_load(options.pid, options.started)
    if not 0 < options.seconds <= _LONGEST_SECONDS:
        parser.error(f"--seconds must be between 1 and {_LONGEST_SECONDS}")
    die_with_parent()
    os.nice(_NICE)
    stop_at = time.monotonic() + options.seconds
    # a second limit: the kernel ends the process
    signal.setitimer(signal.ITIMER_REAL, options.seconds + 30)
    if options.what == "cpu":
        return _cpu(options.workers, stop_at)
    if options.what == "memory":
        return _memory(options.until, options.floor, options.quota_url, stop_at)
    return _disk(options.until, options.floor, options.quota_url, options.folder, stop_at)


def _cpu(workers: int, stop_at: float) -> int:
    children, own = [], os.getpid()
    for _ in range(workers):
        child = os.fork()
        if not child:
            die_with_parent(own)
            while time.monotonic() < stop_at:
                math.fsum(range(20_000))
            os._exit(0)
        children.append(child)
    _count_down(stop_at, f"{workers} cores busy")
    for child in children:
        os.waitpid(child, 0)
    return 0


def _memory(target: int, floor: int, quota_url: str, stop_at: float) -> int:
    held: list[bytearray] = []
    # the duration starts when the memory is allocated, which takes time
    holds_for = stop_at - time.monotonic()
    while _used(quota_url, "memory_bytes") < target:
        if psutil.virtual_memory().available < floor + 2 * _CHUNK_BYTES:
            print(f"less than {floor} bytes of memory would stay free on this machine", flush=True)
            return 1
        for _ in range(2):
            held.append(bytearray(b"\x55" * _CHUNK_BYTES))  # written, so that it is resident
        time.sleep(0.02)
    _count_down(time.monotonic() + holds_for, f"{len(held) * _CHUNK_BYTES // 2**20} MiB held")
    return 0


def _disk(target: int, floor: int, quota_url: str, folder: Path, stop_at: float) -> int:
    wanted = max(0, target - int(_used(quota_url, "disk_used_bytes")))
    if psutil.disk_usage(str(folder)).free - wanted < floor:
        print(f"less than {floor} bytes would stay free on this disk", flush=True)
        return 1
    with tempfile.TemporaryFile(dir=folder) as file:  # O_TMPFILE: without a name it cannot be left behind
        os.posix_fallocate(file.fileno(), 0, max(1, wanted))
        _count_down(stop_at, f"{wanted // 2**20} MiB allocated")
    return 0


def _count_down(stop_at: float, status: str) -> None:
    while (left := stop_at - time.monotonic()) > 0:
        print(f"{status}, {left:.0f} s to go", flush=True)
        time.sleep(min(1.0, left))


def _used(quota_url: str, name: str) -> float:
    with loopback.urlopen(f"{quota_url}/metrics", timeout=3) as answer:
        match = re.search(rf"^sandbox_{name} (\S+)$", answer.read().decode(), flags=re.MULTILINE)
    if match is None:
        raise SystemExit(f"the sandbox does not export sandbox_{name}")
    return float(match[1])


def _end_load(pid: int, started: float) -> int:
    """Terminate the process with this pid and start time, through a pidfd, so that no other process can be hit."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        print(f"process {pid} has already ended")
        return 1
    try:
        if processes.created_at(pid) is not None and not processes.is_alive(pid, started):
            print(f"pid {pid} now belongs to another process")
            return 1
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except ProcessLookupError:
        print(f"process {pid} has already ended")
        return 1
    finally:
        os.close(descriptor)
    return 0


def _exit_on_sigterm(number: int, _: object) -> None:
    os.write(1, b"ended by SIGTERM\n")
    os._exit(1)  # the kernel frees what the process held


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _exit_on_sigterm)
    sys.exit(main())
