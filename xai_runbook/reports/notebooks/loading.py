"""Load notebooks from local files: validated, and without the outputs of an earlier run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xai_runbook.errors import InputError, inert
from xai_runbook.reports.notebooks.parameters import text
from xai_runbook.reports.notebooks.results import METADATA_KEY

MAX_BYTES = 100_000_000


class Malformed(Exception):
    """The file exists, but is not a valid notebook."""


def load(path: Path) -> dict[str, Any]:
    """Return the notebook's JSON without outputs.

    Errors: InputError when there is no such local file (URLs are never fetched); Malformed when it is not a notebook.
    """
    if "://" in str(path) or path.suffix != ".ipynb" or not path.is_file():
        raise InputError(
            f"{inert(str(path), 200)!r} is not a notebook file", hint="give the path of a local .ipynb file"
        )
    if path.stat().st_size > MAX_BYTES:
        raise Malformed(f"the file is larger than {MAX_BYTES // 10**6} MB")
    try:
        notebook = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Malformed("the file is not JSON") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or notebook.get("nbformat") != 4 or not all(map(_is_cell, cells)):
        raise Malformed("the file is not a notebook of format 4")
    ids = [cell["id"] for cell in cells if "id" in cell]
    if len(set(ids)) < len(ids):
        raise Malformed("two cells have the same id")
    for cell in cells:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None, source=text(cell["source"]))
    return notebook  # type: ignore[no-any-return]


def _is_cell(cell: object) -> bool:
    return (
        isinstance(cell, dict)
        and cell.get("cell_type") in ("code", "markdown", "raw")
        and isinstance(cell.get("source"), str | list)
        and isinstance(cell.get("metadata"), dict)
        and isinstance(cell["metadata"].get("tags", []), list)
        and isinstance(cell["metadata"].get(METADATA_KEY, {}), dict)
        and isinstance(cell.get("id", ""), str)
    )


def load_executed(path: Path) -> dict[str, Any]:
    """Return the JSON of an executed copy. Errors: OSError, ValueError, RecursionError."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("too large")
    notebook = json.loads(path.read_bytes())
    if not isinstance(notebook, dict):
        raise ValueError("not a notebook")
    return notebook
