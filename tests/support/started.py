"""Start parts of the sandbox without its supervisor, for tests of single parts."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.error import HTTPError

from xai_runbook.sandbox.supervisor.component import Layout, Part, environment

Answer = TypeVar("Answer")


def eventually(condition: Callable[[], Answer], seconds: float = 60.0) -> Answer:
    """Return the first true answer; fail with the last answer or error if there is none in time."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            answer = condition()
        except (OSError, LookupError) as error:
            last = error
            if isinstance(error, HTTPError):
                error.close()
        else:
            if answer:
                return answer
            last = answer
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s; last: {last!r}")


@contextmanager
def started(layout: Layout, parts: Sequence[Part]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Yield the running processes by part name; kill them afterwards."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    (layout.folder / "tmp").mkdir(exist_ok=True)
    try:
        prepares = [threading.Thread(target=part.prepare) for part in parts if part.prepare]
        for thread in prepares:
            thread.start()
        for thread in prepares:
            thread.join(30)
        for part in parts:
            start(layout, part, running)
        for part in parts:
            eventually(part.ready)
        yield running
    finally:
        for process in running.values():
            process.kill()
        for process in running.values():
            process.wait(10)


def start(layout: Layout, part: Part, running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Start one part's process, its output in its log file."""
    with open(layout.log_file(part.name), "ab") as log:
        running[part.name] = subprocess.Popen(
            part.argv, env=environment(layout.folder) | dict(part.env), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
