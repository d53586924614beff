"""One notebook in a process of its own: `python -P -m xai_runbook.reports.runner.worker`, its orders on stdin as JSON.

It says on stdout, a JSON line each, which cell it is at, and at last how it went; the executed copy is the result.
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
    """0 when the notebook was run, whatever it came to; 1 when it could not be."""
    order = json.loads(sys.stdin.read())
    die_with_parent(order["parent"])
    kernel = KernelProcess(Path(order["folder"]))
    # first of all, so that it comes up while papermill is imported
    kernel.start()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints must not garble the channel
    error = ""
    try:
        _run(order, kernel, channel)
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    finally:
        kernel.end()
    _say(channel, {"end": True, "error": error})
    return 1 if error else 0


def _run(order: dict[str, Any], kernel: KernelProcess, channel: TextIO) -> None:
    # jsonschema builds a grammar with it at import, three seconds for a check of IRIs that no notebook needs
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    import nbformat
    from papermill.engines import papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    from xai_runbook.reports.runner.engine import ReportEngine, RunOptions
    from xai_runbook.reports.runner.redaction import Mask

    mask = Mask(order["secrets"])
    target = Path(order["target"])
    notebook = nbformat.from_dict(order["notebook"])

    def write(executed: Any, last: bool) -> None:
        for cell in executed.cells:
            mask.value(cell.get("outputs"))
        # a copy that cannot be kept in between may yet be kept at the end
        with nullcontext() if last else suppress(OSError):
            keep(target, json.dumps(executed, ensure_ascii=False, indent=1, sort_keys=True), durable=last)

    def tell(name: str, number: int, of: int) -> None:
        _say(channel, {"cell": name, "done": number, "cells": of})

    orders = RunOptions(kernel, write, tell, order["cell_seconds"], target.name, mask)
    papermill_engines.register("xai-runbook", ReportEngine)
    # an error output makes papermill raise in the end; what it means is for whoever reads the copy to say
    with suppress(PapermillExecutionError):
        # neither input nor output path: papermill would format them with the parameters, and pick handlers by scheme
        execute_notebook(
            notebook,
            None,
            order["parameters"],
            engine_name="xai-runbook",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            orders=orders,
        )


def keep(target: Path, text: str, *, durable: bool) -> None:
    """Writes `text` whole or not at all, readable by us alone. Errors: OSError."""
    partial = target.with_name(f".{target.name}.part")
    with suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(text.encode("utf-8", "replace"))
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    partial.replace(target)


def _say(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


if __name__ == "__main__":
    sys.exit(main())
