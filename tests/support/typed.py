"""A command at a terminal: its standard input, output and error are a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "xai_runbook.cli.main"]


class Typed:
    """A running command on a terminal of its own."""

    def __init__(self, *arguments: str, journal: Path, more: dict[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=os.environ | {"XAI_RUNBOOK_OUTPUTS__JOURNAL": str(journal)} | (more or {}),
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self._master, False)

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *error: object) -> None:
        """Kill the process, however the test ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def read(self) -> None:
        """Read what the command has written since."""
        try:
            while piece := os.read(self._master, 65536):
                self.shown += piece.decode(errors="replace")
        except (BlockingIOError, OSError):  # nothing to read now, or it has ended
            pass

    def until(self, text: str, seconds: float = 60.0) -> None:
        """Wait until the command shows this text."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            ended = self.process.poll() is not None
            self.read()
            assert text in self.shown or not ended, f"it ended: {self.shown}"
            assert time.monotonic() < deadline, self.shown
            time.sleep(0.02)

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        os.write(self._master, line.encode() + b"\r")

    def ctrl_c(self) -> None:
        """Send SIGINT to the command's process group, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def hang_up(self) -> None:
        """Close the terminal as a dropped ssh does: SIGHUP, and no more output."""
        os.killpg(self.process.pid, signal.SIGHUP)
        os.close(self._master)
        self._master = os.open(os.devnull, os.O_RDONLY)

    def ended(self, seconds: float = 60.0) -> int:
        """Wait for the command to end; return its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read()  # a full terminal would block the command
            assert time.monotonic() < deadline, self.shown
            time.sleep(0.02)
        self.read()
        os.close(self._master)
        return self.process.returncode


def run(*arguments: str, journal: Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a terminal."""
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"XAI_RUNBOOK_OUTPUTS__JOURNAL": str(journal)} | variables,
    )  # fmt: skip
