"""Faults of Prometheus itself: invalid configuration, removed target, corrupt write-ahead log, few open files."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.components import prometheus
from xai_runbook.system.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from xai_runbook.sandbox.supervisor.supervisor import Supervisor

REMOVED_TARGET = "node-2"
SPARE_FILES = 2


def misconfigure(supervisor: Supervisor) -> None:
    """Give Prometheus a configuration with an unknown key: the reload fails and the old configuration stays active."""
    _configure(supervisor, {"no_such_key": True})


def remove_target(supervisor: Supervisor) -> None:
    """Remove one node from Prometheus' scrape targets."""
    jobs = _configuration(supervisor)["scrape_configs"]
    for job in jobs:
        kept = [group for group in job["static_configs"] if group["labels"]["instance"] != REMOVED_TARGET]
        job["static_configs"] = kept
    _configure(supervisor, {"scrape_configs": jobs})


def restore_configuration(supervisor: Supervisor) -> None:
    """Give Prometheus the sandbox's configuration again."""
    _configure(supervisor, {})


def corrupt_wal(supervisor: Supervisor) -> None:
    """Flip bits in the write-ahead log while Prometheus is stopped; at its start it truncates the log."""
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
    """Restart Prometheus, which resets its counters.

    A reload that adds a target again soon would count hundreds of out-of-order samples: the staleness markers of its
    old series are written when it is scraped again.
    """
    supervisor.stop_part("prometheus")
    supervisor.start_part("prometheus")


def limit_open_files(supervisor: Supervisor, part: str) -> None:
    """Lower the part's soft limit of open files to little more than it uses."""
    _limit_files(supervisor, part, SPARE_FILES)


def restore_open_files(supervisor: Supervisor, part: str) -> None:
    """Raise the part's soft limit of open files to its hard limit."""
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
    write_atomically(file, json.dumps(_configuration(supervisor) | changes, indent=1).encode())
    supervisor.signal_part("prometheus", signal.SIGHUP)


def _flip_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content.rstrip(b"\0")) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    write_atomically(path, bytes(content))
