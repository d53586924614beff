"""The commands `report`, `check` and `ack`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from xai_runbook.cli import ack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from xai_runbook.reports.report import Record
    from xai_runbook.reports.runner.result import Event, NotebookResult
    from xai_runbook.settings.models import Settings

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
  xai-runbook check block_height sync_lag --env production
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
        from xai_runbook.reports.terminal import show

        _say(show(made, sys.stdout))


def _report(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from xai_runbook.errors import ReportError
    from xai_runbook.reports import acknowledgements, report
    from xai_runbook.reports.notebooks.cells import read
    from xai_runbook.reports.runner.result import Interrupted
    from xai_runbook.settings.loading import load

    # whatever can be wrong with what we were told is wrong before anything runs
    started_at = datetime.now(UTC)
    settings = load(arguments.env or "", running=True)
    known = acknowledgements.read(acknowledgements.place(settings))
    chosen, options = _chosen(arguments), _options(arguments, settings)
    declared = {path.stem: [cell.id for cell in read(path) if cell.is_question] for path in chosen}
    folder, id_ = report.folder_of(settings, arguments.out).absolute(), report.new_id(settings.name, started_at)
    place, code = report.open_folder(folder, id_), None
    try:
        results = _run(chosen, place, options, progress=_progress())
    except Interrupted as interrupted:
        results, code = interrupted.results, interrupted.exit_code
    except BaseException:
        _leave_nothing(place)
        raise
    made = report.record(
        settings,
        results,
        id_=id_,
        started_at=started_at,
        declared=declared,
        judged=acknowledgements.applied(report.findings_of(results), known, settings.name),
        relative_to=place,
    )
    try:
        page = report.keep(made, _page(made, settings), folder)
    except ReportError:
        _tell(made, as_json=arguments.json)  # a full disk must not hide what was found
        raise
    _tell(made, as_json=arguments.json)
    _say(f"{made.verdict}: {page}", to_stderr=arguments.json)
    return made.verdict.exit_code if code is None else code


def _chosen(arguments: argparse.Namespace) -> list[Path]:
    from xai_runbook.errors import InputError
    from xai_runbook.reports.notebooks.cells import HEALTH_REPORT, find, names

    asked = names() if arguments.all else arguments.notebook or [HEALTH_REPORT]
    chosen = list(dict.fromkeys(find(name).resolve() for name in asked))
    stems = [path.stem for path in chosen]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice:
        raise InputError(f"two notebooks are called {twice}", hint="they would share one executed copy: rename one")
    if not chosen:
        raise InputError("there are no notebooks", hint="is the package whole?")
    return chosen


def _options(arguments: argparse.Namespace, settings: Settings) -> dict[str, object]:
    """What run.execute is told, checked before anything is started."""
    import os

    from xai_runbook.errors import InputError
    from xai_runbook.model.window import Window, duration_seconds
    from xai_runbook.reports.notebooks.parameters import given

    parameters: dict[str, object] = {"environment": settings.name} | given(arguments.parameter)
    if parameters["environment"] != settings.name:
        raise InputError("the environment is not given as a parameter", hint="--env NAME")
    if arguments.window:
        parameters["window"] = arguments.window
    if "window" in parameters:  # or each chart's cell would fail by it
        Window.parse(str(parameters["window"]))
    spans = {"cell_seconds": arguments.cell_timeout, "run_seconds": arguments.timeout}
    seconds = {key: duration_seconds(text) for key, text in spans.items()}
    if min(seconds.values()) <= 0:
        raise InputError("a deadline of no time leaves no time to answer", hint="--cell-timeout 2m --timeout 15m")
    return {"parameters": parameters, "jobs": arguments.jobs or os.cpu_count() or 1, **seconds}


def _run(
    chosen: Sequence[Path], place: Path, options: dict[str, object], progress: Callable[[Event], None]
) -> list[NotebookResult]:
    from xai_runbook.reports.runner.run import execute

    return execute(chosen, out=place, environment=None, progress=progress, **options)  # type: ignore[arg-type]


def _page(made: Record, settings: Settings) -> str:
    from xai_runbook.reports.html import page

    return page(made, settings)


def _leave_nothing(place: Path) -> None:
    """An empty folder would look like a report; one with executed notebooks is kept."""
    import contextlib

    with contextlib.suppress(OSError):
        place.rmdir()


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
