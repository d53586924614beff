"""Read the answers from a notebook that this package's engine or plain papermill has executed.

The notebook is untrusted: its outputs contain texts of servers, and the file may come from anywhere. A missing,
malformed or forged finding and a cell that did not end are never `ok`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from xai_runbook import errors
from xai_runbook.errors import MARKER, CannotAsk, NotConfigured, XaiRunbookError, inert
from xai_runbook.model.findings import MIME_TYPE, Finding, Status
from xai_runbook.reports.runner.result import CellAnswer, Chart

QUESTION_TAG = "raises-exception"
SETUP_TAGS = frozenset({"parameters", "injected-parameters", "setup"})
METADATA_KEY = "xai_runbook"
"""Key in the metadata of cells and notebook under which the engine records faults and the cells it ran."""

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_CHARTS, _MAX_CHART_BYTES, _MAX_TARGETS = 12, 4_000_000, 1000
_ERROR_LINE = re.compile(rf"{re.escape(MARKER)}(\w+): (.*)", flags=re.DOTALL)
_PART = re.compile(r"\(([A-Za-z][\w.-]{0,60})\)(?:\. Try: |$)")


def read(notebook: Mapping[str, Any], section: str = "") -> tuple[CellAnswer, ...]:
    """Return the answers of an executed notebook's JSON, in order; `section` is for cells that name none."""
    return tuple(_answer(cell, name, section)[0] for cell, name in _code_cells(notebook) if is_question(cell))


def faults(notebook: Mapping[str, Any]) -> list[str]:
    """Return the faults of the notebook in order, one line each: "CELL: FAULT"."""
    lines = []
    for cell, name in _code_cells(notebook):
        fault = _answer(cell, name, "")[1] if is_question(cell) else _cell_fault(cell)
        if fault:
            lines.append(f"{name}: {fault}")
    metadata = _metadata(notebook)
    lines.extend(inert(fault) for fault in _list(metadata.get("faults")) if isinstance(fault, str))
    return lines


def ran_to_end(notebook: Mapping[str, Any]) -> bool:
    """Return whether the engine recorded that it ran every code cell of the notebook."""
    return _metadata(notebook).get("ran") == [name for _, name in _code_cells(notebook)]


def is_question(cell: Mapping[str, Any]) -> bool:
    """Return whether a code cell is a question: tagged `raises-exception` and not a set-up cell."""
    tags = set(tags_of(cell))
    return QUESTION_TAG in tags and not tags & SETUP_TAGS


def tags_of(cell: Mapping[str, Any]) -> list[str]:
    """Return the tags of a cell."""
    return [tag for tag in _list(_dict(cell.get("metadata")).get("tags")) if isinstance(tag, str)]


def name_of(cell: Mapping[str, Any], index: int) -> str:
    """Return a cell's id, or "cell-N" if it has none."""
    name = cell.get("id")
    return inert(name, 64) if isinstance(name, str) and name else f"cell-{index + 1}"


def _answer(cell: Mapping[str, Any], name: str, section: str) -> tuple[CellAnswer, str]:
    """Return the answer of a question's cell and its fault ("" if none)."""
    metadata = _metadata(cell)
    own_section = metadata.get("section")
    section = inert(own_section, 100) if isinstance(own_section, str) and own_section else section
    answer = CellAnswer(name=name, section=section, finding=None, charts=tuple(_charts(cell, name)))
    outputs = _outputs(cell)
    error_output = next((output for output in outputs if output.get("output_type") == "error"), None)
    fault = _recorded_fault(metadata)
    if error_output is not None:
        error = _package_error(error_output)
        if isinstance(error, NotConfigured) and not fault:
            return replace(answer, not_configured=error.part), ""
        if isinstance(error, CannotAsk):
            finding = Finding.unknown(name, error)
        else:
            fault = fault or _message(error_output)
            finding = Finding.unknown(name, fault)
    else:
        shown = [output for output in outputs if MIME_TYPE in _dict(output.get("data"))]
        finding, finding_fault = _finding(shown, name)
        if not outputs and not fault and cell.get("execution_count") is None:
            finding_fault = "the cell was not run"
            finding = Finding.unknown(name, finding_fault)
        fault = fault or finding_fault
        if fault and finding.status is not Status.ALERT:
            # an alert remains an alert; any other status is unknown after a fault
            finding = Finding.unknown(name, fault)
    return replace(answer, finding=replace(finding, section=section)), fault


def _finding(shown: list[Mapping[str, Any]], name: str) -> tuple[Finding, str]:
    """Return the finding that a cell shows and its fault ("" if none)."""
    if len(shown) != 1:
        fault = f"NoFinding: the cell shows {len(shown) or 'no'} findings; a question must show exactly one"
    elif shown[0].get("output_type") != "execute_result":
        fault = "NoFinding: the finding is shown, but is not the cell's last expression"
    else:
        try:
            finding = Finding.from_json(_dict(shown[0].get("data"))[MIME_TYPE])
        except ValueError:
            fault = "NoFinding: the cell shows a malformed finding"
        else:
            if finding.name == name:
                # a cell cannot acknowledge its own finding
                return replace(finding, acknowledged=None, targets=finding.targets[:_MAX_TARGETS]), ""
            fault = f"NoFinding: question {name} was answered with finding {inert(finding.name, 64)}"
    return Finding.unknown(name, fault), fault


def _cell_fault(cell: Mapping[str, Any]) -> str:
    """Return the fault of a cell that is not a question ("" if none)."""
    for output in _outputs(cell):
        if output.get("output_type") == "error" and not isinstance(_package_error(output), NotConfigured):
            return _recorded_fault(_metadata(cell)) or _message(output)
    return _recorded_fault(_metadata(cell))


def _package_error(output: Mapping[str, Any]) -> XaiRunbookError | None:
    """Return the XaiRunbookError in an error output; None for any other error."""
    lines = [line for line in _list(output.get("traceback")) if isinstance(line, str)]
    match = _ERROR_LINE.fullmatch(lines[0].strip()) if lines else None
    kind = getattr(errors, match[1], None) if match else None
    if match is None or not isinstance(kind, type) or not issubclass(kind, XaiRunbookError):
        return None
    what, _, hint = match[2].partition(". Try: ")
    if kind is NotConfigured:
        part = _PART.search(match[2])
        return NotConfigured(what, on=part[1] if part else "a part")
    return kind(what, hint=hint)


def _message(output: Mapping[str, Any]) -> str:
    error = _package_error(output)
    if error is not None:
        return inert(f"{type(error).__name__}: {error}", 500)
    return inert(f"{output.get('ename') or 'Error'}: {output.get('evalue') or 'no message'}", 500)


def _charts(cell: Mapping[str, Any], name: str) -> Iterator[Chart]:
    count = 0
    for output in _outputs(cell):
        image = _dict(output.get("data")).get("image/png")
        image = "".join(part for part in image if isinstance(part, str)) if isinstance(image, list) else image
        if not isinstance(image, str) or len(image) > _MAX_CHART_BYTES * 3 // 2 or count >= _MAX_CHARTS:
            continue
        try:
            png = base64.b64decode(re.sub(r"\s+", "", image), validate=True)
        except (binascii.Error, ValueError):
            continue
        if png.startswith(_PNG) and len(png) <= _MAX_CHART_BYTES:
            count += 1
            alt = _dict(_dict(output.get("metadata")).get("image/png")).get("alt")
            yield Chart(png, inert(alt, 300) if isinstance(alt, str) and alt else f"Chart of {name}")


def _code_cells(notebook: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield each code cell that is not empty, with its name."""
    for index, cell in enumerate(_list(_dict(notebook).get("cells"))):
        if isinstance(cell, Mapping) and cell.get("cell_type") == "code":
            source = cell.get("source")
            if "".join(str(line) for line in source).strip() if isinstance(source, list) else str(source or "").strip():
                yield cell, name_of(cell, index)


def _recorded_fault(metadata: Mapping[str, Any]) -> str:
    fault = metadata.get("fault")
    return inert(fault, 500) if isinstance(fault, str) else ""


def _metadata(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    return _dict(_dict(_dict(holder).get("metadata")).get(METADATA_KEY))


def _outputs(cell: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [output for output in _list(cell.get("outputs")) if isinstance(output, Mapping)]


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
