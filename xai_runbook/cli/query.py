"""`xai-runbook query`: one PromQL query by hand, with the same checks and deadlines as every other query."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from xai_runbook.cli.parser import add_command
from xai_runbook.cli.table import table_rows, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pandas import DataFrame

    from xai_runbook.cli.parser import Commands
    from xai_runbook.model.window import Window

MAX_ROWS = 40
NO_SERIES = 1
_FORMATS = ("png", "svg", "pdf")


def add_commands(commands: Commands) -> None:
    """Add `query`."""
    command = add_command(
        commands,
        "query",
        "run a PromQL query",
        description="Run a PromQL query at one instant, or with --window over a range: the table then has one line for"
        " each series.\n\nExits with 0, with 1 if there are no series (which is not the same as 0), with 3 if the query"
        " failed.",
        examples="""\
xai-runbook query 'rate(process_cpu_seconds_total[2m])'
xai-runbook query blockchain_height --window 6h --chart height.png
xai-runbook query 'sum by (route) (rate(http_requests_total[5m]))' --at 2026-01-31T10:00Z --csv > routes.csv
xai-runbook query 'up == 0' --json --env production""",
        run=_run,
    )
    command.add_argument("promql", metavar="PROMQL", help="the query, quoted for the shell")
    command.add_argument("--window", metavar="SPAN", help='a range: "6h" until now or --at, or two instants START/END')
    command.add_argument("--at", metavar="TIME", help="ISO 8601 with a zone: 2026-01-31T10:00Z (default: now)")
    command.add_argument("--step", metavar="SPAN", help="the step of a range (default: about 500 points)")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document with all rows")
    form.add_argument("--csv", action="store_true", help="print all rows; texts that look like formulas are quoted")
    form.add_argument("--chart", metavar="FILE", help="draw the range into FILE (.png, .svg, .pdf)")


def _run(options: argparse.Namespace) -> int:
    from xai_runbook.environment import connect
    from xai_runbook.errors import InputError

    window = _window(options)
    prometheus = connect(options.env or "").prometheus
    try:
        if window is not None:
            frame = prometheus.range(options.promql, window, options.step)
        else:
            frame = prometheus.instant(options.promql, _instant(options.at) if options.at else None)
    except InputError as error:
        for line in error_position(options.promql, error.what):
            print(line, file=sys.stderr)
        raise
    for warning in frame.attrs.get("warnings", ()):
        _note(f"Prometheus warns: {warning}")
    if options.chart:
        _draw(frame, options)
    elif options.json:
        print(_json(frame, options.promql, prometheus.environment))
    elif options.csv:
        sys.stdout.writelines(csv_lines(frame))
    else:
        print(_table(frame, summed=window is not None))
    if frame.empty:
        _note("no series found (not the same as 0)")
        return NO_SERIES
    return 0


def error_position(query: str, message: str) -> Iterator[str]:
    """Yield the line of the query that a message such as "1:7: parse error" is about, and a caret under the position.

    >>> for line in error_position("sum by (x", "invalid parameter: 1:10: parse error: unclosed"): print(line)
      sum by (x
               ^
    """
    import unicodedata

    from xai_runbook.errors import inert

    found = re.search(r"(?<!\d)(\d{1,6}):(\d{1,9}): parse error", message)
    lines = query.split("\n")
    if found is None or not 1 <= int(found[1]) <= len(lines):
        return
    line = lines[int(found[1]) - 1]
    # Prometheus counts bytes, the caret stands under a column of the terminal
    before = inert(line.encode()[: int(found[2]) - 1].decode("utf-8", "ignore"), 10**6)
    shown, start = inert(line, 10**6), max(0, len(before) - 60)
    dots = "…" if start else ""
    columns = sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in before[start:])
    yield f"  {dots}{shown[start : start + 100]}{'…' if len(shown) > start + 100 else ''}"
    yield f"  {' ' * (len(dots) + columns)}^"


def csv_lines(frame: DataFrame) -> Iterator[str]:
    """Yield the frame as CSV with a header; a text that a spreadsheet would evaluate gets a leading apostrophe."""
    import csv
    import io

    from xai_runbook.errors import inert

    def cell(value: object) -> str:
        text = inert(str(value), 10**6)
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text

    labels = [column for column in frame.columns if column not in ("at", "value")]
    texts = [frame[label].astype("str") for label in labels]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*map(cell, labels), "at", "value"])
    for *label_values, at, value in zip(*texts, frame["at"], frame["value"], strict=True):
        writer.writerow([*map(cell, label_values), at.isoformat(), repr(float(value))])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _window(options: argparse.Namespace) -> Window | None:
    """Return the requested window; refuse invalid options before anything is asked."""
    from xai_runbook.model.window import Window, duration_seconds

    if options.chart and not options.window:
        options.usage_error("--chart needs --window")
    if options.chart and options.chart.rpartition(".")[2].lower() not in _FORMATS:
        options.usage_error(f"--chart {options.chart}: the name must end in .png, .svg or .pdf")
    if options.step and not options.window:
        options.usage_error("--step needs --window")
    if options.step:
        duration_seconds(options.step)
    if not options.window:
        return None
    return Window.parse(options.window, now=_instant(options.at) if options.at else None)


def _instant(text: str) -> datetime:
    from xai_runbook.model.window import Window

    return Window.parse(f"1970-01-01T00:00:00Z/{text}").end


def _table(frame: DataFrame, *, summed: bool) -> str:
    """Return MAX_ROWS rows as a table, and how many more there are: samples, or with `summed` one row per series."""
    from xai_runbook.errors import inert

    labels = [column for column in frame.columns if column not in ("at", "value")]
    frame = frame.astype(dict.fromkeys(labels, "str"))
    if summed:
        head = ["points", "first at", "last at", "least", "most", "last"]
        rows = _series_rows(frame, labels)
        count = len(rows)
    else:
        head = ["at", "value"]
        shown = frame.head(MAX_ROWS)
        label_rows = list(zip(*(shown[label] for label in labels), strict=True)) or [()] * len(shown)
        rows = [
            [*values, _time(at), _number(value)]
            for values, at, value in zip(label_rows, shown["at"], shown["value"], strict=True)
        ]
        count = len(frame)
    texts = [[inert(str(cell), 10_000) for cell in row] for row in rows[:MAX_ROWS]]
    lines = table_rows([[*labels, *head], *texts], width=terminal_width())
    if count > MAX_ROWS:
        lines.append(f"... and {count - MAX_ROWS} more: --csv and --json have them all, --chart draws them")
    return "\n".join(lines)


def _series_rows(frame: DataFrame, labels: list[str]) -> list[list[str]]:
    """Return the labels of each series, and number, first and last time, minimum, maximum and last of its values."""
    groups = frame.groupby(labels, sort=True) if labels else [((), frame)]
    rows = []
    for key, series in groups:
        if len(series):
            values, times = series["value"], series["at"]
            numbers = (float(values.min()), float(values.max()), float(values.iloc[-1]))
            name = key if isinstance(key, tuple) else (key,)
            rows.append(
                [*map(str, name), str(len(series)), _time(times.iloc[0]), _time(times.iloc[-1]), *map(_number, numbers)]
            )
    return rows


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _number(value: float) -> str:
    return f"{value:.12g}"


def _json(frame: DataFrame, query: str, environment: str) -> str:
    """Return one JSON document; NaN and infinities are texts, as Prometheus writes them."""
    import json
    import math

    names = {math.inf: "+Inf", -math.inf: "-Inf"}
    rows = []
    for record in frame.to_dict("records"):
        number = float(record.pop("value"))
        at = record.pop("at").isoformat()
        value = number if math.isfinite(number) else names.get(number, "NaN")
        rows.append({str(name): str(text) for name, text in record.items()} | {"at": at, "value": value})
    document = {"environment": environment, "query": query, "warnings": frame.attrs.get("warnings", []), "rows": rows}
    return json.dumps(document, indent=1, default=str)


def _draw(frame: DataFrame, options: argparse.Namespace) -> None:
    import io
    from pathlib import Path

    import matplotlib as mpl

    from xai_runbook import charts
    from xai_runbook.system.files import write_atomically

    mpl.use("agg")
    picture = io.BytesIO()
    axes = charts.timeline(frame.drop(columns="__name__", errors="ignore"), title=options.promql)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(picture, format=options.chart.rpartition(".")[2].lower())
    write_atomically(Path(options.chart), picture.getvalue())
    _note(f"drawn: {options.chart}")


def _note(text: str) -> None:
    from xai_runbook.errors import inert

    print(f"xai-runbook: {inert(text)}", file=sys.stderr)
