"""Worker process that runs one notebook: `python -P -m xai_runbook.reports.runner.worker`, the job as JSON on stdin.

It writes its progress and, at the end, its error to stdout as JSON lines; the executed copy is the result.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

from xai_runbook.reports.runner.kernel_process import KernelProcess
from xai_runbook.system.parent_death import die_with_parent


def main() -> int:
    """Run the notebook on stdin; return 0 if it was run, whatever its cells did, else 1."""
    job = json.loads(sys.stdin.read())
    die_with_parent(job["parent"])
    kernel = KernelProcess(Path(job["folder"]))
    # first, so that it starts while papermill is imported
    kernel.start()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # other prints must not mix with the messages
    error = ""
    try:
        _run(job, kernel, channel)
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    finally:
        kernel.end()
    _send(channel, {"end": True, "error": error})
    return 1 if error else 0


def _run(job: dict[str, Any], kernel: KernelProcess, channel: TextIO) -> None:
    # jsonschema would spend three seconds building its grammar, which no notebook needs
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    import nbformat
    from papermill.engines import papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    from xai_runbook.reports.runner.engine import ReportEngine, RunOptions
    from xai_runbook.reports.runner.redaction import Mask

    mask = Mask(job["secrets"])
    target = Path(job["target"])
    notebook = nbformat.from_dict(job["notebook"])

    def save_copy(executed: Any, last: bool) -> None:
        for cell in executed.cells:
            mask.value(cell.get("outputs"))
        # only the last copy must be saved
        with nullcontext() if last else suppress(OSError):
            save(target, json.dumps(executed, ensure_ascii=False, indent=1, sort_keys=True), durable=last)

    def report_progress(name: str, number: int, of: int) -> None:
        _send(channel, {"cell": name, "done": number, "cells": of})

    options = RunOptions(kernel, save_copy, report_progress, job["cell_seconds"], target.name, mask)
    papermill_engines.register("xai-runbook", ReportEngine)
    # papermill raises if an output is an error; errors are read from the executed copy
    with suppress(PapermillExecutionError):
        # no paths: papermill would format them with the parameters and choose handlers by their scheme
        execute_notebook(
            notebook,
            None,
            job["parameters"],
            engine_name="xai-runbook",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            options=options,
        )


def save(target: Path, text: str, *, durable: bool) -> None:
    """Write `text` atomically to a file that only this user can read. Errors: OSError."""
    partial = target.with_name(f".{target.name}.part")
    with suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(text.encode("utf-8", "replace"))
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    partial.replace(target)


def _send(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


if __name__ == "__main__":
    sys.exit(main())
