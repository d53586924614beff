"""The command `ack`."""

from __future__ import annotations

import argparse
import sys


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `ack`."""
    example = """\
examples:
  xai-runbook ack disk_free --until 4h --why "new disk arrives at 14:00" --env production
  xai-runbook ack --list
  xai-runbook ack --remove disk_free --env production

It covers what the newest report found: a worse finding, or another target, counts again."""
    parser = subparsers.add_parser(
        "ack",
        help="set a finding aside until a time, with a reason",
        description="Set a finding aside until a time, with a reason.",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--env", metavar="NAME", help="the environment; $XAI_RUNBOOK_ENV, else the sandbox")
    parser.set_defaults(run=_ack)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("finding", nargs="?", metavar="FINDING", help="a finding of the newest report that is not ok")
    what.add_argument("--list", action="store_true", help="show what is acknowledged")
    what.add_argument("--remove", metavar="FINDING", help="take it back")
    parser.add_argument("--until", metavar="TIME", help='"4h", or an instant with its zone: 2026-01-31T10:00:00Z')
    parser.add_argument("--why", metavar="TEXT", help="for whoever reads the next report")
    parser.add_argument("--out", metavar="DIR", help="where reports are kept (outputs/reports)")


def _ack(arguments: argparse.Namespace) -> int:
    from xai_runbook.errors import InputError, inert
    from xai_runbook.reports import acknowledgements
    from xai_runbook.settings.loading import load

    settings = load(arguments.env or "")
    path = acknowledgements.path_of(settings)
    if arguments.list:
        for row in acknowledgements.read(path):
            where = f"{row.environment} {row.finding}: {row.status} until {row.until.isoformat()}, {row.by}: {row.why}"
            _say(inert(where))
        return 0
    if arguments.remove:
        acknowledgements.remove(path, settings.name, arguments.remove)
        _say(f"{arguments.remove} counts again")
        return 0
    if not arguments.until or not arguments.why:
        raise InputError("an acknowledgement needs --until and --why", hint='--until 4h --why "..."')
    one = acknowledgements.acknowledge(
        arguments.env or "", arguments.finding, until=arguments.until, why=arguments.why, folder=arguments.out
    )
    _say(f"{one.finding} is set aside until {one.until.isoformat()}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
