"""Worker processes: start one with a job, read its messages, end it with its own processes."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any

from xai_runbook.errors import inert
from xai_runbook.reports.runner.kernel_process import RUN_MARK
from xai_runbook.system import child, processes


class Worker:
    """One running worker process."""

    def __init__(self, target: Path, folder: Path, job: dict[str, Any], variables: Mapping[str, str]) -> None:
        self.target, self.folder = target, folder
        self.started = self.last_message_at = monotonic()
        self.pending = b""
        self.closed = False
        folder.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            target.unlink()
        # the job contains secrets, so it is passed in a file without a name, not in argv
        with tempfile.TemporaryFile() as stdin, (folder / "worker.log").open("wb") as log:
            stdin.write(json.dumps(job).encode())
            stdin.seek(0)
            self.process = processes.start(
                child.module_argv("xai_runbook.reports.runner.worker"),
                env=variables,
                cwd=folder,
                stdin=stdin,
                stdout="pipe",
                stderr=log,
                own_group=True,
            )
        assert self.process.stdout is not None
        self.stdout: IO[bytes] = self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have arrived; `closed` becomes true when its stdout is closed."""
        self.last_message_at = monotonic()
        piece = self.stdout.read()
        self.closed = piece == b""
        *lines, self.pending = (self.pending + (piece or b"")).split(b"\n")
        for line in lines:
            with suppress(ValueError):
                yield json.loads(line)

    def end(self) -> None:
        """Kill it with its kernel; `kill_marked` finds processes that left its group."""
        processes.kill(self.process, group=True)
        self.stdout.close()
        with suppress(FileNotFoundError):
            self.target.with_name(f".{self.target.name}.part").unlink()

    def exit_description(self) -> str:
        """Return how it ended, with the last line of its stderr."""
        processes.ended_within(self.process, 2)
        lines: list[str] = []
        with suppress(OSError):
            lines = (self.folder / "worker.log").read_text(errors="replace")[-5000:].strip().splitlines()
        return inert(
            f"the worker process died (exit code {self.process.poll()}){f': {lines[-1]}' if lines else ''}", 500
        )


def kill_marked(mark: str) -> None:
    """Kill every process with this mark, also those that a notebook moved to another process group."""
    for _ in range(3):  # one may have started another meanwhile
        pids = processes.pids_with_variable(RUN_MARK, mark)
        if not pids:
            return
        processes.end_pids(dict.fromkeys(pids, signal.SIGKILL), grace_seconds=1)
