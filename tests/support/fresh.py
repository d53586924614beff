"""Modules that a new Python process imports."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("pandas", "numpy", "pydantic", "matplotlib", "boto3", "psycopg", "tornado", "redis", "orjson", "jinja2",
         "papermill", "nbformat", "IPython", "psutil", "asyncio", "unittest")  # fmt: skip


def imported(code: str) -> set[str]:
    """Return the top-level modules that a new Python process has imported after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return {name.partition(".")[0] for name in done.stderr.split()}
