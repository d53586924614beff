"""The commands `report`, `check` and `ack`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from xai_runbook.cli import ack

if TYPE_CHECKING:
    from collections.abc import Callable

    from xai_runbook.reports.report import Record
    from xai_runbook.reports.runner.result import Event

_EXITS = "Leaves with 0 ok, 1 alert, 2 critical alert, 3 could not tell or could not run."


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds them."""
    _add_report(subparsers)
    _add_check(subparsers)
    ack.add_command(subparsers)


def _command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_: str,
    example: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        name,
        help=help_,
        description=f"{help_[0].upper()}{help_[1:]}.",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--env", metavar="NAME", help="the environment; $XAI_RUNBOOK_ENV, else the sandbox")
    parser.set_defaults(run=run)
    return parser


def _add_report(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    example = f"""\
examples:
  xai-runbook report                                  the health report of the sandbox
  xai-runbook report --env production --window 6h
  xai-runbook report --notebook 03_database --jobs 1

{_EXITS}"""
    parser = _command(subparsers, "report", "run notebooks and make one page of what they found", example, _report)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--notebook", action="append", metavar="PATH-OR-NAME", help="this one; may be given again")
    which.add_argument("--all", action="store_true", help="every notebook")
    parser.add_argument("--window", metavar="SPAN", help='what charts span: "6h", or two instants START/END')
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="of the notebooks; may be repeated"
    )
    parser.add_argument("--jobs", type=_count, metavar="N", help="notebooks side by side (the number of cores)")
    parser.add_argument("--out", metavar="DIR", help="where reports are kept (outputs/reports)")
    parser.add_argument("--cell-timeout", default="2m", metavar="SPAN", help="the deadline of one cell (2m)")
    parser.add_argument("--timeout", default="15m", metavar="SPAN", help="the deadline of the whole run (15m)")
    parser.add_argument("--json", action="store_true", help="print the record on stdout")


def _add_check(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    example = f"""\
examples:
  xai-runbook check                                   every question of the health report, in seconds
  xai-runbook check block_growth sync_lag --env production
  xai-runbook check --json | jq -r .verdict

{_EXITS}"""
    parser = _command(subparsers, "check", "ask the health report's questions, here and now", example, _check)
    parser.add_argument("finding", nargs="*", metavar="FINDING", help="only these questions")
    parser.add_argument("--timeout", default="30s", metavar="SPAN", help="the deadline of every answer (30s)")
    parser.add_argument("--json", action="store_true", help="print the record on stdout")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 64")
    return int(text)


def _say(text: str, *, to_stderr: bool = False) -> None:
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)


def _check(arguments: argparse.Namespace) -> int:
    from xai_runbook.reports.check import check

    made = check(arguments.env or "", arguments.finding, timeout=arguments.timeout)
    _tell(made, as_json=arguments.json)
    return made.verdict.exit_code


def _tell(made: Record, *, as_json: bool) -> None:
    if as_json:
        import json

        _say(json.dumps(made.to_json(), indent=1))
    else:
        from xai_runbook.reports.terminal import render_for

        _say(render_for(made, sys.stdout))


def _report(arguments: argparse.Namespace) -> int:
    from xai_runbook.reports.make import ReportInterrupted, ReportNotSaved, make_report
    from xai_runbook.reports.notebooks.cells import HEALTH_REPORT, names
    from xai_runbook.reports.notebooks.parameters import parse_pairs

    try:
        report = make_report(
            arguments.env or "",
            names() if arguments.all else arguments.notebook or [HEALTH_REPORT],
            window=arguments.window or "",
            parameters=parse_pairs(arguments.parameter),
            folder=arguments.out,
            jobs=arguments.jobs,
            cell_timeout=arguments.cell_timeout,
            timeout=arguments.timeout,
            progress=_progress(),
        )
        code = report.exit_code
    except ReportInterrupted as interrupted:
        report, code = interrupted.report, interrupted.exit_code
    except ReportNotSaved as error:
        if error.record:
            _tell(error.record, as_json=arguments.json)  # a full disk must not hide what was found
        raise
    _tell(report.record, as_json=arguments.json)
    _say(f"{report.verdict}: {report.page}", to_stderr=arguments.json)
    return code


def _progress() -> Callable[[Event], None]:
    """Tells how far it is, on a terminal alone; cron hears only the end."""
    from xai_runbook.errors import inert

    if not sys.stderr.isatty():
        return lambda event: None

    def tell(event: Event) -> None:
        if event.result:
            line = f"{event.notebook}: {event.result.status} in {event.result.seconds:.1f} s\n"
        else:
            line = f"{event.notebook}: {event.done + 1} of {event.cells} {event.cell}"
        sys.stderr.write(f"\r\033[K{inert(line.rstrip(), 78)}{line[len(line.rstrip()) :]}")
        sys.stderr.flush()

    return tell
