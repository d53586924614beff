"""Notebooks, environments and records for tests."""

from __future__ import annotations

import json
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xai_runbook.model.findings import Finding, Severity, Status
from xai_runbook.reports.report import Record, record
from xai_runbook.reports.runner.result import CellAnswer, Chart, NotebookResult
from xai_runbook.settings.loading import load
from xai_runbook.settings.models import Settings

AT = datetime(2026, 11, 25, 0, 15, tzinfo=UTC)


def cell(id_: str, source: str, *tags: str, kind: str = "code", section: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": list(tags)} if tags else {}
    if section:
        metadata["xai_runbook"] = {"section": section}
    written: dict[str, Any] = {"cell_type": kind, "id": id_, "metadata": metadata, "source": source}
    return written if kind == "markdown" else {**written, "outputs": [], "execution_count": None}


def question(id_: str, source: str, *, health: bool = True, section: str = "") -> dict[str, Any]:
    return cell(id_, source, *(["health"] if health else []), "raises-exception", section=section)


SETUP = """\
from xai_runbook import connect, errors
from xai_runbook.model.findings import Finding, Severity, Status

env = connect(environment)


def ok(name, summary="fine"):
    return Finding(name=name, status=Status.OK, summary=summary)
"""


def notebook(
    path: Path, *cells: dict[str, Any], setup: str = SETUP, parameters: str = 'environment = ""\nwindow = "24h"'
) -> Path:
    first = [cell("parameters", parameters, "parameters"), cell("bind", setup, "setup")]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {
        "cells": [*first, *cells],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def environment(folder: Path, name: str = "plain", **lines: str) -> Settings:
    """Return an environment without parts, in a folder that XAI_RUNBOOK_CONFIG names; outputs go to the same folder."""
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    text += f'[outputs]\nfolder = "{folder}/outputs"\nacknowledgements = "{folder}/acknowledgements.toml"\n'
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return load(name)


def finding(name: str, status: str = "alert", severity: str | None = "high", **more: Any) -> Finding:
    return Finding(
        name=name,
        status=Status(status),
        severity=Severity(severity) if severity else None,
        summary=more.pop("summary", f"{name} is {status}"),
        observed_at=AT,
        **more,
    )


def picture(width: int = 8, height: int = 4) -> bytes:
    """Return a PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x4c\x78\xa8" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def result(*findings: Finding, name: str = "health_report", status: Any = "completed", **more: Any) -> NotebookResult:
    charts = (Chart(png=picture(), alt="a chart"),)
    answers = [CellAnswer(name=finding.name, section=name, finding=finding, charts=charts) for finding in findings]
    path = more.pop("path", Path(f"{name}.ipynb"))
    return NotebookResult(name=name, path=path, status=status, seconds=1.25, answers=tuple(answers), **more)


def recorded(settings: Settings, *findings: Finding, **more: Any) -> Record:
    notebook_result = result(*findings, **more)
    return record(
        settings,
        [notebook_result],
        id_="20261125T001500Z-plain-ab12",
        started_at=AT,
        declared={notebook_result.name: [finding.name for finding in findings]},
        judged=findings,
    )
