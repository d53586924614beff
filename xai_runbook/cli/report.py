"""`xai-runbook report | check`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from xai_runbook.cli.parser import add_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from xai_runbook.cli.parser import Commands
    from xai_runbook.reports.report import Record
    from xai_runbook.reports.runner.result import Event

_EXIT_CODES = "Exits with 0 ok, 1 alert, 2 critical alert, 3 unknown, or the command could not run."


def add_commands(commands: Commands) -> None:
    """Add `report` and `check`."""
    _add_report(commands)
    _add_check(commands)


def _add_report(commands: Commands) -> None:
    command = add_command(
        commands,
        "report",
        "run notebooks and make one page of their findings",
        description=f"Run notebooks and make one page of their findings.\n\n{_EXIT_CODES}",
        examples="""\
xai-runbook report                                  # the health report of the sandbox
xai-runbook report --env production --window 6h
xai-runbook report --notebook 03_database --jobs 1""",
        run=_report,
    )
    chosen = command.add_mutually_exclusive_group()
    chosen.add_argument(
        "--notebook",
        action="append",
        metavar="NOTEBOOK",
        help="a notebook's name or path; may be repeated (default: health_report)",
    )
    chosen.add_argument("--all", action="store_true", help="all notebooks")
    command.add_argument("--window", metavar="SPAN", help='the window of charts: "6h", or two instants START/END')
    command.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a parameter; may be repeated"
    )
    command.add_argument("--jobs", type=_jobs, metavar="N", help="notebooks in parallel (default: number of cores)")
    command.add_argument("--out", metavar="DIR", help="the folder of reports (default: outputs/reports)")
    command.add_argument("--cell-timeout", default="2m", metavar="SPAN", help="the deadline of a cell (default: 2m)")
    command.add_argument("--timeout", default="15m", metavar="SPAN", help="the deadline of the run (default: 15m)")
    command.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_check(commands: Commands) -> None:
    command = add_command(
        commands,
        "check",
        "ask the health report's questions without notebooks, in seconds",
        description=f"Ask the health report's questions without notebooks, in seconds.\n\n{_EXIT_CODES}",
        examples="""\
xai-runbook check
xai-runbook check block_growth sync_lag --env production
xai-runbook check --json | jq -r .verdict""",
        run=_check,
    )
    command.add_argument("finding", nargs="*", metavar="FINDING", help="ask only these questions")
    command.add_argument("--timeout", default="30s", metavar="SPAN", help="the deadline of an answer (default: 30s)")
    command.add_argument("--json", action="store_true", help="print the report as JSON")


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"invalid number {text!r}; expected 1 to 64")
    return int(text)


def _check(options: argparse.Namespace) -> int:
    from xai_runbook.reports.check import check

    record = check(options.env or "", options.finding, timeout=options.timeout)
    _print_record(record, as_json=options.json)
    return record.verdict.exit_code


def _report(options: argparse.Namespace) -> int:
    from xai_runbook.reports.make import ReportInterrupted, ReportNotSaved, make_report
    from xai_runbook.reports.notebooks.cells import HEALTH_REPORT, names
    from xai_runbook.reports.notebooks.parameters import parse_pairs

    try:
        report = make_report(
            options.env or "",
            names() if options.all else options.notebook or [HEALTH_REPORT],
            window=options.window or "",
            parameters=parse_pairs(options.parameter),
            folder=options.out,
            jobs=options.jobs,
            cell_timeout=options.cell_timeout,
            timeout=options.timeout,
            progress=_progress(),
        )
        code = report.exit_code
    except ReportInterrupted as interrupted:
        report, code = interrupted.report, interrupted.exit_code
    except ReportNotSaved as error:
        if error.record:
            _print_record(error.record, as_json=options.json)  # even if the disk is full, show what was found
        raise
    _print_record(report.record, as_json=options.json)
    print(f"{report.verdict}: {report.page}", file=sys.stderr if options.json else sys.stdout, flush=True)
    return code


def _print_record(record: Record, *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(record.to_json(), indent=1), flush=True)
    else:
        from xai_runbook.reports.terminal import render_for

        print(render_for(record, sys.stdout), flush=True)


def _progress() -> Callable[[Event], None]:
    """Return a function that shows the current cell on a terminal, and nothing elsewhere."""
    from xai_runbook.cli.progress import show_line

    if not sys.stderr.isatty():
        return lambda event: None

    def show(event: Event) -> None:
        if event.result:
            show_line(f"{event.notebook}: {event.result.status} in {event.result.seconds:.1f} s", final=True)
        else:
            show_line(f"{event.notebook}: {event.done + 1} of {event.cells} {event.cell}")

    return show
