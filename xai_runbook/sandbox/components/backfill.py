"""Write the metric history of the day before the sandbox's start, as blocks that Prometheus reads.

Run as ``python -m xai_runbook.sandbox.components.backfill``. The samples are written as OpenMetrics text, and promtool
makes blocks of them, at each first start, because timestamps are absolute. It is a process of its own, so that numpy
and the arrays do not stay in the supervisor's memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.errors import SandboxError
from xai_runbook.sandbox.supervisor.component import Layout, environment
from xai_runbook.system import child, processes
from xai_runbook.system.parent_death import PARENT_VARIABLE, die_with_parent

if TYPE_CHECKING:
    from subprocess import Popen

    from xai_runbook.sandbox.components.backfill_series import Series

BLOCK_DURATION = "54h"
"""promtool's largest step above a day; it reads its whole input once for each block that it makes."""

DEADLINE_SECONDS = 60.0
EXPORTERS = {"node": "node-exporter", "postgres": "postgres-exporter"}
"""The part that exports the series of each of these jobs."""
TEXT_FILE = "history.om"


def start(layout: Layout, promtool: Path, data: Path, now: float) -> Popen[bytes]:
    """Start the process that writes the day before ``now`` into Prometheus' data folder; see ``finish``."""
    argv = child.module_argv("xai_runbook.sandbox.components.backfill", str(promtool), str(data))
    argv += [str(now), layout.database, *layout.missing]
    layout.part_folder("tmp")  # promtool assembles its blocks there
    with open(layout.log_file("history"), "ab") as log:
        env = environment(layout.folder) | {PARENT_VARIABLE: str(os.getpid())}
        return processes.start(argv, env=env, cwd=layout.folder, stdout=log, stderr=log, own_group=False)


def finish(process: Popen[bytes], data: Path) -> None:
    """Wait for the blocks. Raises SandboxError if they are not written within DEADLINE_SECONDS."""
    try:
        if not processes.ended_within(process, DEADLINE_SECONDS):
            raise SandboxError(f"Prometheus' history was not written within {DEADLINE_SECONDS:.0f} s")
        if process.returncode:
            raise SandboxError("Prometheus' history could not be written", hint="see logs/history.log")
    finally:
        processes.kill(process)
        (data.parent / TEXT_FILE).unlink(missing_ok=True)


def write(path: Path, series: Iterable[Series]) -> int:
    """Write the series as OpenMetrics text without types (a backfill keeps none); return the number of samples."""
    timestamps_by_array: dict[int, list[str]] = {}
    written = 0
    with open(path, "w", encoding="ascii") as file:
        for entry in series:
            timestamps = timestamps_by_array.setdefault(id(entry.times), [])
            if not timestamps:
                timestamps.extend(f" {at}\n" for at in entry.times.tolist())
            labels = ",".join(f'{name}="{value}"' for name, value in entry.labels.items())
            values = entry.values.round(3).tolist()
            prefix = f"{entry.name}{{{labels}}} "
            file.write("".join([f"{prefix}{value}{at}" for value, at in zip(values, timestamps, strict=True)]))
            written += len(timestamps)
        file.write("# EOF\n")
    return written


def main() -> None:
    """Write the samples beside the data folder, then exec promtool, so that only one process has to be watched."""
    from xai_runbook.sandbox.components.backfill_series import all_series

    die_with_parent()
    parser = argparse.ArgumentParser(description="Backfill a sandbox's Prometheus with one day of history.")
    parser.add_argument("promtool", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("now", type=float)
    parser.add_argument("database")
    parser.add_argument("missing", nargs="*", help="parts that do not run here: their series are left out")
    options = parser.parse_args()
    started = time.monotonic()
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = options.data.parent / TEXT_FILE
    absent = {job for job, exporter in EXPORTERS.items() if exporter in options.missing}
    series = (each for each in all_series(options.now, options.database) if each.labels["job"] not in absent)
    count = write(text, series)
    sys.stdout.write(f"{count} samples in {time.monotonic() - started:.2f} s\n")
    sys.stdout.flush()
    arguments = ["--quiet", f"--max-block-duration={BLOCK_DURATION}"]
    os.execv(
        options.promtool,
        [str(options.promtool), "tsdb", "create-blocks-from", *arguments, "openmetrics", str(text), str(options.data)],
    )


if __name__ == "__main__":
    main()
