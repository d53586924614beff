"""Faults of Prometheus itself: a configuration that it cannot read, a target that was taken out, a damaged log."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import prometheus
from xai_runbook.system.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

REMOVED_TARGET = "node-2"
SPARE_FILES = 2


def misconfigure(supervisor: Supervisor) -> None:
    """Gives it a configuration with a key that it does not know: the reload fails, the old one stays in force."""
    _configure(supervisor, {"no_such_key": True})


def remove_target(supervisor: Supervisor) -> None:
    """Takes one node out of what it scrapes."""
    jobs = _configuration(supervisor)["scrape_configs"]
    for job in jobs:
        kept = [group for group in job["static_configs"] if group["labels"]["instance"] != REMOVED_TARGET]
        job["static_configs"] = kept
    _configure(supervisor, {"scrape_configs": jobs})


def restore_configuration(supervisor: Supervisor) -> None:
    """Gives it the sandbox's configuration again."""
    _configure(supervisor, {})


def corrupt_wal(supervisor: Supervisor) -> None:
    """Ends it, turns bits over in the middle of its log, starts it: it cuts the log there, and counts that."""
    supervisor.stop_part("prometheus")
    segments = sorted((supervisor.layout.part_folder("prometheus") / "data" / "wal").glob("[0-9]*"))
    written = [path for path in segments if path.read_bytes().strip(b"\0")]
    if not written:
        supervisor.start_part("prometheus")
        raise SandboxError(
            "Prometheus has not written its write-ahead log yet", on="prometheus", hint="try again in a few seconds"
        )
    _flip_bits(written[-1])
    supervisor.start_part("prometheus")


def restart(supervisor: Supervisor) -> None:
    """A clean start: what it counts begins anew. A reload that puts a target back soon would count hundreds of samples
    out of order: the end of its series is written when it is being scraped again."""
    supervisor.stop_part("prometheus")
    supervisor.start_part("prometheus")


def limit_open_files(supervisor: Supervisor, part: str) -> None:
    """Lowers how many files the part may have open to hardly more than it has; the hard limit stays."""
    _limit_files(supervisor, part, SPARE_FILES)


def restore_open_files(supervisor: Supervisor, part: str) -> None:
    """Lets the part open as many files as its hard limit allows."""
    _limit_files(supervisor, part, None)


def _limit_files(supervisor: Supervisor, part: str, spare: int | None) -> None:
    import psutil

    process = psutil.Process(supervisor.pids()[part])
    _, hard_limit = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (hard_limit if spare is None else process.num_fds() + spare, hard_limit))


def _configuration(supervisor: Supervisor) -> dict[str, Any]:
    return prometheus.configuration(supervisor.layout, prometheus.rule_file(supervisor.layout))


def _configure(supervisor: Supervisor, changes: dict[str, object]) -> None:
    file = supervisor.layout.part_folder("prometheus") / "prometheus.yml"
    write_whole(file, json.dumps(_configuration(supervisor) | changes, indent=1).encode())
    supervisor.signal_part("prometheus", signal.SIGHUP)


def _flip_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content.rstrip(b"\0")) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    write_whole(path, bytes(content))
