"""`xai-runbook query`: PromQL by hand, with the same checks and deadlines as every other question."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pandas import DataFrame, Series

    from xai_runbook.model.window import Window

MOST_SHOWN = 40
NOTHING = 1
_PICTURES = ("png", "svg", "pdf")
_EXAMPLE = """\
examples:
  xai-runbook query 'rate(process_cpu_seconds_total[2m])'
  xai-runbook query blockchain_height --window 6h --chart height.png
  xai-runbook query 'sum by (route) (rate(http_requests_total[5m]))' --at 2026-01-31T10:00Z --csv > routes.csv
  xai-runbook query 'up == 0' --json --env production

Without --window it is asked at one instant, with it the table has a line a series. Leaves with 0, with 1 where the
answer has no series (which is no 0), with 3 where it could not be asked or read."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds it."""
    parser = subparsers.add_parser(
        "query",
        help="ask Prometheus by hand",
        description="Asks Prometheus by hand, reading only.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("promql", metavar="PROMQL", help="in quotes, for the shell")
    parser.add_argument("--window", metavar="SPAN", help='a range: "6h" until now or --at, or two instants START/END')
    parser.add_argument("--at", metavar="TIME", help="ISO 8601 with a zone: 2026-01-31T10:00Z (now)")
    parser.add_argument("--step", metavar="SPAN", help="how far apart the points of a range are (about 500 in all)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one document, every row of it")
    form.add_argument("--csv", action="store_true", help="every row; texts that a spreadsheet would compute are quoted")
    form.add_argument("--chart", metavar="FILE", help="draw the range into FILE (.png, .svg, .pdf)")
    parser.add_argument("--env", metavar="NAME", help="the environment; $XAI_RUNBOOK_ENV, else the sandbox")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from xai_runbook.environment import connect
    from xai_runbook.errors import InputError

    window = _window(arguments)
    prometheus = connect(arguments.env or "").prometheus
    try:
        if window is not None:
            frame = prometheus.range(arguments.promql, window, arguments.step)
        else:
            frame = prometheus.instant(arguments.promql, _instant(arguments.at) if arguments.at else None)
    except InputError as error:
        for line in pointed(arguments.promql, error.what):
            print(line, file=sys.stderr)
        raise
    for warning in frame.attrs.get("warnings", ()):
        _aside(f"Prometheus warns: {warning}")
    if arguments.chart:
        _draw(frame, arguments)
    elif arguments.json:
        print(_json(frame, arguments.promql, prometheus.environment))
    elif arguments.csv:
        sys.stdout.writelines(csv_lines(frame))
    else:
        print(_table(frame, summed=window is not None))
    if frame.empty:
        _aside("no series: nothing of that name and these labels (that is no 0)")
        return NOTHING
    return 0


def pointed(query: str, complaint: str) -> Iterator[str]:
    """The line of `query` that a complaint such as "1:7: parse error" is about, and a caret under the place.

    >>> for line in pointed("sum by (x", "invalid parameter: 1:10: parse error: unclosed"): print(line)
      sum by (x
               ^
    """
    import unicodedata

    from xai_runbook.errors import inert

    found = re.search(r"(?<!\d)(\d{1,6}):(\d{1,9}): parse error", complaint)
    lines = query.split("\n")
    if found is None or not 1 <= int(found[1]) <= len(lines):
        return
    line = lines[int(found[1]) - 1]
    # counted in bytes; shown in columns of a terminal
    before = inert(line.encode()[: int(found[2]) - 1].decode("utf-8", "ignore"), 10**6)
    shown, start = inert(line, 10**6), max(0, len(before) - 60)
    dots = "…" if start else ""
    columns = sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in before[start:])
    yield f"  {dots}{shown[start : start + 100]}{'…' if len(shown) > start + 100 else ''}"
    yield f"  {' ' * (len(dots) + columns)}^"


def csv_lines(frame: DataFrame) -> Iterator[str]:
    """The frame as CSV, a header first; a text that a spreadsheet would take for a formula has a quote before it."""
    import csv
    import io

    from xai_runbook.errors import inert

    def cell(told: object) -> str:
        text = inert(str(told), 10**6)
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text

    labels = [column for column in frame.columns if column not in ("at", "value")]
    texts = [frame[label].astype("str") for label in labels]
    into = io.StringIO()
    writer = csv.writer(into, lineterminator="\n")
    writer.writerow([*map(cell, labels), "at", "value"])
    for *own, at, value in zip(*texts, frame["at"], frame["value"], strict=True):
        writer.writerow([*map(cell, own), at.isoformat(), repr(float(value))])
        yield into.getvalue()
        into.seek(0)
        into.truncate()
    yield into.getvalue()


def _window(arguments: argparse.Namespace) -> Window | None:
    """What was asked for, checked before anything is asked."""
    from xai_runbook.errors import InputError
    from xai_runbook.model.window import Window, duration_seconds

    if arguments.chart and not arguments.window:
        raise InputError("a chart needs a window", hint="--window 6h")
    if arguments.chart and arguments.chart.rpartition(".")[2].lower() not in _PICTURES:
        raise InputError(f"{arguments.chart!r} names no kind of picture", hint="a name that ends in .png, .svg or .pdf")
    if arguments.step and not arguments.window:
        raise InputError("a step needs a window", hint="--window 6h")
    if arguments.step:
        duration_seconds(arguments.step)
    if not arguments.window:
        return None
    return Window.parse(arguments.window, now=_instant(arguments.at) if arguments.at else None)


def _instant(text: str) -> datetime:
    from xai_runbook.model.window import Window

    return Window.parse(f"1970-01-01T00:00:00Z/{text}").end


def _table(frame: DataFrame, *, summed: bool) -> str:
    """As many lines as a screen has, and how many there are: the samples, or what those of each series come to."""
    from xai_runbook.errors import inert

    columns = [column for column in frame.columns if column not in ("at", "value")]
    frame = frame.astype(dict.fromkeys(columns, "str"))
    if summed:
        head = ["points", "first at", "last at", "least", "most", "last"]
        groups = frame.groupby(columns, sort=True) if columns else [((), frame)]
        parts = [(key if isinstance(key, tuple) else (key,), rows) for key, rows in groups if len(rows)]
        told = [
            (
                own,
                [
                    str(len(rows)),
                    _at(rows["at"].iloc[0]),
                    _at(rows["at"].iloc[-1]),
                    *map(_number, _ends(rows["value"])),
                ],
            )
            for own, rows in parts
        ]
    else:
        head = ["at", "value"]
        rows = frame.head(MOST_SHOWN + 1)
        own = list(zip(*(rows[column] for column in columns), strict=True)) or [()] * len(rows)
        told = [
            (names, [_at(at), _number(value)]) for names, at, value in zip(own, rows["at"], rows["value"], strict=True)
        ]
    lines = [[*columns, *head], *([*(inert(str(name), 60) for name in own), *rest] for own, rest in told[:MOST_SHOWN])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    left = (len(told) if summed else len(frame)) - MOST_SHOWN
    if left > 0:
        shown.append(f"... and {left} more: --csv and --json have them all, --chart draws them")
    return "\n".join(shown)


def _ends(values: Series[float]) -> tuple[float, float, float]:
    return float(values.min()), float(values.max()), float(values.iloc[-1])


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _number(value: float) -> str:
    return f"{value:.12g}"


def _json(frame: DataFrame, query: str, environment: str) -> str:
    """One document; what JSON has no number for is a text, as Prometheus itself writes it."""
    import json
    import math

    names = {math.inf: "+Inf", -math.inf: "-Inf"}
    rows = []
    for record in frame.to_dict("records"):
        value = float(record.pop("value"))
        at = record.pop("at").isoformat()
        told = value if math.isfinite(value) else names.get(value, "NaN")
        rows.append({str(name): str(text) for name, text in record.items()} | {"at": at, "value": told})
    about = {"environment": environment, "query": query, "warnings": frame.attrs.get("warnings", [])}
    return json.dumps(about | {"rows": rows}, indent=1, default=str)


def _draw(frame: DataFrame, arguments: argparse.Namespace) -> None:
    import io
    from pathlib import Path

    import matplotlib as mpl

    from xai_runbook import charts
    from xai_runbook.system.files import write_whole

    mpl.use("agg")
    picture = io.BytesIO()
    figure = charts.timeline(frame.drop(columns="__name__", errors="ignore"), title=arguments.promql).get_figure(
        root=True
    )
    assert figure is not None
    figure.savefig(picture, format=arguments.chart.rpartition(".")[2].lower())
    write_whole(Path(arguments.chart), picture.getvalue())
    _aside(f"drawn: {arguments.chart}")


def _aside(text: str) -> None:
    from xai_runbook.errors import inert

    print(f"xai-runbook: {inert(text)}", file=sys.stderr)
