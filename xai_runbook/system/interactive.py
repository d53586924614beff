"""Whether a person is there: confirmation words count only where somebody could have typed them."""

from __future__ import annotations

import sys


def is_there() -> bool:
    """True at a terminal, and in a notebook whose client can ask its user; papermill and nbclient say that they cannot.

    There is no switch: tests bring a terminal or such a client.
    """
    kernel = notebook()
    if kernel is not None:
        # what the client said with the very request that runs now
        return bool(getattr(kernel, "_allow_stdin", False))
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:  # closed
        return False


def notebook() -> object | None:
    """The kernel of the notebook that this runs in; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None)
