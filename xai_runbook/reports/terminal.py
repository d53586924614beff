"""A record as text for a terminal: the verdict, then findings worst first, each with the next step, on one screen."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TextIO

from xai_runbook.errors import inert
from xai_runbook.model.findings import Finding, Status
from xai_runbook.reports.report import Record

_RED, _ORANGE, _YELLOW, _PURPLE, _GREEN, _DIM, _BOLD = "1;31", "31", "33", "35", "32", "2", "1"
_COLOURS = {"critical": _RED, "high": _ORANGE, "medium": _YELLOW, "unknown": _PURPLE, "ok": _GREEN, "alert": _ORANGE}
_MARGIN = " " * 10


def render_for(record: Record, stream: TextIO) -> str:
    """Return the record as text that fits `stream`; a terminal's size and colours (unless NO_COLOR) are used."""
    if not stream.isatty():
        return render(record, width=100)
    size = shutil.get_terminal_size()
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return render(record, width=size.columns, height=size.lines, colour=colour)


def render(record: Record, *, width: int = 80, height: int | None = None, colour: bool = False) -> str:
    """Return the record as text with lines of at most `width` characters and, if given, at most `height` lines.

    To fit, ok findings are reduced to names, then to counts per section; then alerts are reduced to one line each,
    except for the worst ones, as many as fit. What is still too long is cut at the end, never the worst at the top.
    """
    width, most_lines = max(width, 30), (height or sys.maxsize) - 1
    problems = [finding for finding in record.unblocked if not finding.acknowledged and finding.status is not Status.OK]
    in_full = {finding.name for finding in problems}
    for ok_lines in (_ok_in_full, _ok_by_name, _ok_by_section):
        lines = _lines(record, width, in_full, ok_lines)
        if len(lines) <= most_lines:
            break
    else:
        in_full, lines = set(), _lines(record, width, set(), _ok_by_section)
        for finding in problems:
            longer = _lines(record, width, in_full | {finding.name}, _ok_by_section)
            if len(longer) > most_lines:
                break
            in_full, lines = in_full | {finding.name}, longer
    if len(lines) > most_lines:
        shown = max(most_lines - 1, 2)
        lines = [*lines[:shown], _cut(f"{'':9} and {len(lines) - shown} more lines; --json prints everything", width)]
    return "\n".join(_coloured(line) for line in lines) if colour else "\n".join(lines)


def _ok_in_full(findings: list[Finding], width: int) -> list[str]:
    return [_cut(f"{'ok':9} {finding.name:22} {finding.summary}", width) for finding in findings]


def _ok_by_name(findings: list[Finding], width: int) -> list[str]:
    return _wrapped("ok", ", ".join(finding.name for finding in findings), width)


def _ok_by_section(findings: list[Finding], width: int) -> list[str]:
    sections = Counter(finding.section for finding in findings)
    return _wrapped("ok", ", ".join(f"{count} in {section or 'all'}" for section, count in sections.items()), width)


def _lines(
    record: Record, width: int, in_full: set[str], ok_lines: Callable[[list[Finding], int], list[str]]
) -> list[str]:
    counted = [finding for finding in record.unblocked if not finding.acknowledged]
    lines = [*_head(record, width), *_missing(record, width)]
    for finding in counted:
        if finding.status is not Status.OK:
            lines += _problem(finding, width, finding.name in in_full)
    for finding in record.findings:
        if finding.acknowledged:
            lines += _acknowledged(finding, width)[: None if in_full else 1]
    lines += ok_lines([finding for finding in counted if finding.status is Status.OK], width)
    return [*lines, *_foot(record, width)]


def _head(record: Record, width: int) -> Iterator[str]:
    seconds = (record.finished_at - record.started_at).total_seconds()
    name = f"PRODUCTION {record.environment}" if record.production else record.environment
    yield _cut(
        f"{record.verdict.upper()} · {name} · {record.finished_at:%Y-%m-%d %H:%M:%S} UTC"
        f" · {len(record.findings)} {'finding' if len(record.findings) == 1 else 'findings'} in {seconds:.1f} s",
        width,
    )
    if not record.complete:
        errors = [
            f"{result.name}: {result.error or result.status}"
            for result in record.notebooks
            if result.status != "completed"
        ]
        yield from _wrapped("incomplete", "; ".join(errors) or "not every question was answered", width)


def _missing(record: Record, width: int) -> Iterator[str]:
    """Yield each missing part with the reason, and one line with the findings that depend on it."""
    for part, names in record.blocked_by_part.items():
        yield from _wrapped("missing", f"{part} is missing: {record.missing[part]}", width)
        if names:
            yield _cut(f"{'unknown':9} {blocked_text(names)}", width)


def blocked_text(names: list[str]) -> str:
    """Return the text about findings that are unknown because a part is missing."""
    return f"{len(names)} question{'s' * (len(names) != 1)} could not be asked because of it: {', '.join(names)}"


def _problem(finding: Finding, width: int, in_full: bool) -> list[str]:
    if not in_full:
        return [_cut(f"{finding.level:9} {finding.name}: {finding.summary}", width)]
    lines = _wrapped(finding.level, f"{finding.name}: {finding.summary}", width)
    if finding.targets:
        lines += _wrapped("", f"on: {', '.join(finding.targets)}", width)
    if finding.hint:
        lines += _wrapped("", f"next: {finding.hint}", width)
    return lines


def _acknowledged(finding: Finding, width: int) -> list[str]:
    marks = finding.acknowledged or {}
    return _wrapped(
        "acked",
        f"{finding.name} ({finding.level}): {finding.summary}; acknowledged until {marks.get('until')}"
        f" by {marks.get('by')}: {marks.get('why')}",
        width,
    )


def _foot(record: Record, width: int) -> Iterator[str]:
    if record.not_configured:
        yield from _wrapped("", f"not configured: {', '.join(record.not_configured)}", width)
    if record.simulated:
        yield from _wrapped("", f"simulated: {', '.join(record.simulated)}", width)


def _wrapped(first: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        inert(text), width, initial_indent=f"{first:9} ", subsequent_indent=_MARGIN, break_on_hyphens=False
    )


def _cut(line: str, width: int) -> str:
    line = inert(line)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _coloured(line: str) -> str:
    first = line.split(" ", 1)[0]
    if first in ("acked", "") or first not in (*_COLOURS, "incomplete", "missing"):
        verdict = _COLOURS.get(first.lower()) if first.isupper() else None
        return f"\033[{_BOLD};{verdict}m{line}\033[0m" if verdict else f"\033[{_DIM}m{line}\033[0m"
    return f"\033[{_COLOURS.get(first, _PURPLE)}m{first}\033[0m{line[len(first) :]}"
