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


def show(made: Record, stream: TextIO) -> str:
    """Return the record as text that fits `stream`; a terminal's size and colours (unless NO_COLOR) are used."""
    if not stream.isatty():
        return screen(made, width=100)
    size = shutil.get_terminal_size()
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return screen(made, width=size.columns, height=size.lines, colour=colour)


def screen(made: Record, *, width: int = 80, height: int | None = None, colour: bool = False) -> str:
    """Return the record as text with lines of at most `width` characters and, if given, at most `height` lines.

    To fit, ok findings are reduced to names, then to counts per section; then alerts are reduced to one line each,
    except for the worst ones, as many as fit. What is still too long is cut at the end, never the worst at the top.
    """
    width, room = max(width, 30), (height or sys.maxsize) - 1
    wrong = [one for one in made.apart if not one.acknowledged and one.status is not Status.OK]
    in_full = {one.name for one in wrong}
    for well in (_in_full, _by_name, _counted):
        lines = _lines(made, width, in_full, well)
        if len(lines) <= room:
            break
    else:
        in_full, lines = set(), _lines(made, width, set(), _counted)
        for one in wrong:
            longer = _lines(made, width, in_full | {one.name}, _counted)
            if len(longer) > room:
                break
            in_full, lines = in_full | {one.name}, longer
    if len(lines) > room:
        kept = max(room - 1, 2)
        lines = [*lines[:kept], _cut(f"{'':9} and {len(lines) - kept} more lines; --json prints everything", width)]
    return "\n".join(_painted(line, colour) for line in lines)


def _in_full(well: list[Finding], width: int) -> list[str]:
    return [_cut(f"{'ok':9} {finding.name:22} {finding.summary}", width) for finding in well]


def _by_name(well: list[Finding], width: int) -> list[str]:
    return _wrapped("ok", ", ".join(finding.name for finding in well), width)


def _counted(well: list[Finding], width: int) -> list[str]:
    sections = Counter(finding.section for finding in well)
    return _wrapped("ok", ", ".join(f"{count} in {section or 'all'}" for section, count in sections.items()), width)


def _lines(made: Record, width: int, in_full: set[str], shown: Callable[[list[Finding], int], list[str]]) -> list[str]:
    counted = [finding for finding in made.apart if not finding.acknowledged]
    well = [finding for finding in counted if finding.status is Status.OK]
    lines = [*_head(made, width), *_missing(made, width)]
    for finding in counted:
        if finding.status is not Status.OK:
            lines += _wrong(finding, width, finding.name in in_full)
    for finding in made.findings:
        if finding.acknowledged:
            lines += _acknowledged(finding, width)[: None if in_full else 1]
    lines += shown(well, width)
    return [*lines, *_foot(made, width)]


def word(finding: Finding) -> str:
    """Return critical, high, medium, unknown or ok."""
    return str(finding.severity or "medium") if finding.status is Status.ALERT else str(finding.status)


def _head(made: Record, width: int) -> Iterator[str]:
    seconds = (made.finished_at - made.started_at).total_seconds()
    name = f"PRODUCTION {made.environment}" if made.production else made.environment
    yield _cut(
        f"{made.verdict.upper()} · {name} · {made.finished_at:%Y-%m-%d %H:%M:%S} UTC · {len(made.findings)} findings"
        f" in {seconds:.1f} s",
        width,
    )
    if not made.complete:
        errors = [
            f"{result.name}: {result.error or result.status}"
            for result in made.notebooks
            if result.status != "completed"
        ]
        yield from _wrapped("incomplete", "; ".join(errors) or "not every question was answered", width)


def _missing(made: Record, width: int) -> Iterator[str]:
    """Yield each missing part with the reason, and one line with the findings that depend on it."""
    for part, names in made.unasked.items():
        yield from _wrapped("missing", f"{part} is missing: {made.missing[part]}", width)
        if names:
            yield _cut(f"{'unknown':9} {unasked(names)}", width)


def unasked(names: list[str]) -> str:
    """Return the text about findings that are unknown because a part is missing."""
    return f"{len(names)} question{'s' * (len(names) != 1)} could not be asked because of it: {', '.join(names)}"


def _wrong(finding: Finding, width: int, in_full: bool) -> list[str]:
    if not in_full:
        return [_cut(f"{word(finding):9} {finding.name}: {finding.summary}", width)]
    lines = _wrapped(word(finding), f"{finding.name}: {finding.summary}", width)
    if finding.targets:
        lines += _wrapped("", f"on: {', '.join(finding.targets)}", width)
    if finding.hint:
        lines += _wrapped("", f"next: {finding.hint}", width)
    return lines


def _acknowledged(finding: Finding, width: int) -> list[str]:
    marks = finding.acknowledged or {}
    return _wrapped(
        "acked",
        f"{finding.name} ({word(finding)}): {finding.summary}; acknowledged by {marks.get('by')} until"
        f" {marks.get('until')}: {marks.get('why')}",
        width,
    )


def _foot(made: Record, width: int) -> Iterator[str]:
    if made.not_configured:
        yield from _wrapped("", f"not configured: {', '.join(made.not_configured)}", width)
    if made.simulated:
        yield from _wrapped("", f"simulated: {', '.join(made.simulated)}", width)


def _wrapped(first: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        inert(text), width, initial_indent=f"{first:9} ", subsequent_indent=_MARGIN, break_on_hyphens=False
    )


def _cut(line: str, width: int) -> str:
    line = inert(line)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _painted(line: str, colour: bool) -> str:
    first = line.split(" ", 1)[0]
    if not colour:
        return line
    if first in ("acked", "") or first not in (*_COLOURS, "incomplete", "missing"):
        verdict = _COLOURS.get(first.lower()) if first.isupper() else None
        return f"\033[{_BOLD};{verdict}m{line}\033[0m" if verdict else f"\033[{_DIM}m{line}\033[0m"
    return f"\033[{_COLOURS.get(first, _PURPLE)}m{first}\033[0m{line[len(first) :]}"
