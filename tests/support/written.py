"""Notebooks for tests, written as JSON files from cells with made-up questions."""

from __future__ import annotations

import json
from pathlib import Path

OK = 'Finding(name="{}", status=Status.OK, summary="all is well")'

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}

Cell = dict[str, object]


def cell(name: str, source: str, *tags: str) -> Cell:
    return {
        "cell_type": "code",
        "id": name,
        "metadata": {"tags": list(tags)},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


PARAMETERS = cell("parameters", 'environment = ""\nwindow = "24h"\nlimit = 0.5\ndeep = False', "parameters")
SET_UP = cell(
    "set-up", "from xai_runbook.model.findings import Finding, Status\nfrom xai_runbook.errors import *", "setup"
)


def question(name: str, before: str = "") -> Cell:
    """Return a question that is answered `ok`, after `before` has run in its cell."""
    return cell(name, f"{before}\n{OK.format(name)}".strip(), "raises-exception")


def write(folder: Path, name: str, *cells: Cell) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": KERNEL},
        "cells": [PARAMETERS, SET_UP, *cells],
    }
    path.write_text(json.dumps({**notebook, "cells": [PARAMETERS, SET_UP, *cells]}))
    return path
