"""Tells whether a person can answer: a confirmation counts only where somebody could have typed it."""

from __future__ import annotations

import sys


def is_interactive() -> bool:
    """Return True at a terminal, and in a notebook whose client can ask its user (papermill and nbclient cannot).

    There is no switch to override it: tests use a pseudo-terminal or a client that allows input.
    """
    kernel = notebook_kernel()
    if kernel is not None:
        # the client sends this flag with the request that is being executed
        return bool(getattr(kernel, "_allow_stdin", False))
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        return False


def notebook_kernel() -> object | None:
    """Return the kernel of the notebook in which this code runs; None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None)
