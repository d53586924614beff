"""Assemble notebooks/health_report.ipynb from the section notebooks, so that no question is written twice.

python -m xai_runbook.reports.notebooks.assemble          writes it
python -m xai_runbook.reports.notebooks.assemble --check  exits 1 if the committed one is not current
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xai_runbook.errors import InputError, XaiRunbookError
from xai_runbook.reports.notebooks.cells import HEALTH_REPORT, Cell, folder, read
from xai_runbook.system.files import write_atomically

_LINE_LENGTH = 120
_SECTION = re.compile(r"\d\d[a-z]?_\w+")
_TITLE = """# Health report

Is the blockchain well, now? Every question here belongs to a section notebook, where it can be followed up; this one is
assembled from them (`make notebooks`), so change a question there. Open it when you come on call, or let
`xai-runbook report` run it.

Reads: whatever the environment declares, with credentials that can only read. Changes: nothing."""

_NEXT = """## Where next

Each finding that is not `ok` names the notebook to open. `unknown` is not `ok`: `00_start_here` says which part does
not answer. Without charts, in seconds: `xai-runbook check`."""


def assembled(sections: Sequence[Path]) -> bytes:
    """Return the health report's bytes, which are reproducible. Errors: InputError when sections contradict."""
    cells_by_section = {path.stem: read(path) for path in sections}
    cells = [_markdown("title", _TITLE), _parameters(cells_by_section), *_setup(cells_by_section)]
    seen: dict[str, str] = {}
    for section, cells_of_section in cells_by_section.items():
        questions = list(_questions(cells_of_section))
        if questions:
            cells.append(_markdown(f"section-{section.replace('_', '-')}", _heading(section, cells_of_section)))
        for cell, above in questions:
            if cell.id in seen:
                raise InputError(
                    f"two sections have a question {cell.id}", on=f"{seen[cell.id]} and {section}", hint="rename one"
                )
            seen[cell.id] = section
            if above:
                cells.append(_markdown(f"about-{cell.id}", _below_section(above.source)))
            cells.append(_code(cell.id, cell.source, tags=sorted(cell.tags), section=section))
    cells.append(_markdown("next", _NEXT))
    document = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def section_paths(folder: Path) -> list[Path]:
    """Return a folder's section notebooks in order: 03_database, 03b_backup_restore, 04_scaling."""
    return sorted(path for path in folder.glob("*.ipynb") if _SECTION.fullmatch(path.stem))


def _parameters(cells_by_section: dict[str, list[Cell]]) -> dict[str, Any]:
    """Return one cell with the parameters that the questions and the set-up use, with their comments."""
    lines: dict[str, str] = {}
    values: dict[str, tuple[object, str]] = {}
    for section, cells in _with_questions(cells_by_section):
        used = set[str]().union(*(_used_names(cell) for cell in cells if {"health", "setup"} & set(cell.tags)))
        for cell in (cell for cell in cells if "parameters" in cell.tags):
            for name, value, line in _assignments(cell, section):
                if name not in used:
                    continue
                if name in values and values[name][0] != value:
                    other = values[name][1]
                    raise InputError(f"parameter {name} has two defaults", on=f"{other} and {section}", hint="use one")
                values.setdefault(name, (value, section))
                lines.setdefault(name, line)
    return _code("parameters", "\n".join(lines.values()), tags=["parameters"])


def _assignments(cell: Cell, section: str) -> Iterator[tuple[str, object, str]]:
    source = cell.source.splitlines()
    for statement in ast.parse(cell.source).body:
        try:
            if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
                raise ValueError
            value = ast.literal_eval(statement.value)
        except ValueError:
            raise InputError(
                "a parameters cell may contain only assignments of literals", on=f"{section}, {cell.id}"
            ) from None
        yield statement.targets[0].id, value, "\n".join(source[statement.lineno - 1 : statement.end_lineno])


def _setup(cells_by_section: dict[str, list[Cell]]) -> list[dict[str, Any]]:
    """Return one cell: the imports in use, merged, then each other statement once, expressions last."""
    imports: dict[str, set[str]] = {}
    other_statements: dict[str, bool] = {}  # whether each is an expression
    used = set[str]()
    for _, cells in _with_questions(cells_by_section):
        used |= {name for cell in cells if "health" in cell.tags for name in _used_names(cell)}
        for cell in (cell for cell in cells if "setup" in cell.tags):
            used |= _used_names(cell)
            for statement in ast.parse(cell.source).body:
                if isinstance(statement, ast.ImportFrom) and not statement.level:
                    imports.setdefault(statement.module or "", set()).update(map(ast.unparse, statement.names))
                elif isinstance(statement, ast.Import):
                    imports.setdefault("", set()).update(map(ast.unparse, statement.names))
                else:
                    text = ast.get_source_segment(cell.source, statement) or ast.unparse(statement)
                    other_statements.setdefault(text, isinstance(statement, ast.Expr))
    lines = [f"import {name}" for name in _names_in_use(imports.pop("", ()), used)]
    for module, names in sorted(imports.items()):
        if in_use := _names_in_use(names, used):
            lines.append(_import_statement(module, in_use))
    return [
        _code(
            "setup",
            "\n".join([*lines, "", *sorted(other_statements, key=other_statements.__getitem__)]),
            tags=["setup"],
        )
    ]


def _import_statement(module: str, names: Sequence[str]) -> str:
    """Return the import as ruff formats it: on one line if it fits."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= _LINE_LENGTH:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in names), ")"])


def _names_in_use(imported: Iterable[str], used: set[str]) -> list[str]:
    return [name for name in sorted(imported) if name.rpartition(" as ")[2].partition(".")[0] in used]


def _used_names(cell: Cell) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}


def _with_questions(cells_by_section: dict[str, list[Cell]]) -> Iterable[tuple[str, list[Cell]]]:
    return [
        (section, cells) for section, cells in cells_by_section.items() if any("health" in cell.tags for cell in cells)
    ]


def _questions(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Cell | None]]:
    for above, cell in zip([None, *cells], cells, strict=False):
        if "health" in cell.tags:
            if not cell.is_question:
                raise InputError(f"the health cell {cell.id} lacks the tag raises-exception", on=cell.section)
            is_about_it = above and above.kind == "markdown" and not above.source.startswith("# ")
            yield cell, above if is_about_it else None


def _heading(section: str, cells: Sequence[Cell]) -> str:
    """Return the section's title as a heading, with the name of its notebook."""
    titles = (
        line[2:]
        for cell in cells
        if cell.kind == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("# ")
    )
    return f"## {next(titles, section)}\n\nFollow up in `{section}.ipynb`."


def _below_section(source: str) -> str:
    """Return a question's text with its headings one level below the section's."""
    return "\n".join(f"#{line}" if line.startswith("## ") else line for line in source.splitlines())


def _markdown(id_: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": id_[:64], "metadata": {}, "source": source.splitlines(keepends=True)}


def _code(id_: str, source: str, *, tags: list[str], section: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    if section:
        metadata["xai_runbook"] = {"section": section}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": id_[:64],
        "metadata": metadata,
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the health report, or with --check report whether it is current."""
    parser = argparse.ArgumentParser(prog="python -m xai_runbook.reports.notebooks.assemble", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where it is not current")
    parser.add_argument("--folder", type=Path, default=folder(), help="where the notebooks are")
    options = parser.parse_args(arguments)
    path = options.folder / f"{HEALTH_REPORT}.ipynb"
    try:
        content = assembled(section_paths(options.folder))
    except XaiRunbookError as error:
        print(error, file=sys.stderr)
        return 1
    current = path.is_file() and path.read_bytes() == content
    if options.check:
        print(f"{path.name} is {'current' if current else 'not current: run make notebooks'}", file=sys.stderr)
        return 0 if current else 1
    if not current:
        write_atomically(path, content)
        path.chmod(0o644)  # committed source, not a report
    return 0


if __name__ == "__main__":
    sys.exit(main())
