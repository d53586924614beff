"""The kernel process: start, interrupt, kill. Imports nothing slow, so that a kernel starts before papermill loads."""

from __future__ import annotations

import json
import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.system import child, processes
from xai_runbook.system.parent_death import PARENT_VARIABLE

if TYPE_CHECKING:
    from subprocess import Popen

RUN_MARK = "XAI_RUNBOOK_REPORT_RUN"
"""Environment variable that identifies every process of one run, also one in another session."""


class KernelProcess:
    """A kernel process of this Python, reached through Unix sockets in a private folder.

    Over TCP, any local process could read the outputs without the key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.starts = 0
        self.connection: Any = {}
        self.process: Popen[bytes] | None = None

    def start(self) -> None:
        """Start a new process with a new key and new sockets; return before it answers."""
        self.starts += 1
        names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        self.connection = {
            "transport": "ipc",
            "ip": str(self.folder / f"k{self.starts}"),
            **{name: number for number, name in enumerate(names, 1)},
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "python3",
        }
        file = self.folder / f"k{self.starts}.json"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            json.dump(self.connection, stream)
        environment = dict(os.environ)  # the worker's environment, which `run` has reduced
        # a user's own IPython settings must not change a report
        environment["IPYTHONDIR"] = str(self.folder / "ipython")
        environment[PARENT_VARIABLE] = str(os.getpid())
        environment["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
        with (self.folder / "kernel.log").open("ab") as log:
            self.process = processes.start(
                child.module_argv(
                    "xai_runbook.reports.runner.kernel",
                    "-f",
                    str(file),
                    "--HistoryManager.enabled=False",
                    "--IPKernelApp.capture_fd_output=True",
                    "--IPKernelApp.ignore_cwd=True",  # IPython before 9.7 adds the folder despite -P
                ),
                env=environment,
                cwd=None,
                stdout=log,
                stderr=log,
                own_group=False,  # it ends with its worker's process group
            )

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Kill the process; it has nothing to save."""
        if self.process is not None:
            processes.kill(self.process)

    def exit_description(self) -> str:
        """Return how it ended: "exit code 1", "signal SIGKILL"."""
        code = self.poll()
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"

    def last_log_line(self) -> str:
        """Return the last line of its log, which holds no output of cells."""
        with suppress(OSError):
            lines = (self.folder / "kernel.log").read_text(errors="replace")[-5000:].strip().splitlines()
            return lines[-1] if lines else "no output"
        return "no output"
