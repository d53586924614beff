"""`xai-runbook ack`: acknowledge a finding until a time."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from xai_runbook.cli.parser import add_command

if TYPE_CHECKING:
    from xai_runbook.cli.parser import Commands


def add_commands(commands: Commands) -> None:
    """Add `ack`."""
    command = add_command(
        commands,
        "ack",
        "acknowledge a finding until a time, with a reason",
        description="Acknowledge a finding of the newest report until a time, with a reason. Until then it does not"
        " change the verdict, unless it gets worse or affects another target.",
        examples="""\
xai-runbook ack disk_free --until 4h --why "new disk arrives at 14:00" --env production
xai-runbook ack --list
xai-runbook ack --remove disk_free --env production""",
        run=_ack,
    )
    action = command.add_mutually_exclusive_group(required=True)
    action.add_argument("finding", nargs="?", metavar="FINDING", help="a finding of the newest report that is not ok")
    action.add_argument("--list", action="store_true", help="list the acknowledgements")
    action.add_argument("--remove", metavar="FINDING", help="remove the acknowledgement of a finding")
    command.add_argument("--until", metavar="TIME", help='"4h", or an instant with a zone: 2026-01-31T10:00:00Z')
    command.add_argument("--why", metavar="TEXT", help="the reason, which reports show")
    command.add_argument("--out", metavar="DIR", help="the folder of reports (default: outputs/reports)")


def _ack(options: argparse.Namespace) -> int:
    from xai_runbook.errors import inert
    from xai_runbook.reports import acknowledgements
    from xai_runbook.settings.loading import load

    if options.finding and not (options.until and options.why):
        options.usage_error('FINDING needs --until TIME and --why TEXT, such as --until 4h --why "new disk"')
    settings = load(options.env or "")
    path = acknowledgements.path_of(settings)
    if options.list:
        for row in acknowledgements.read(path):
            line = f"{row.environment} {row.finding}: {row.status} until {row.until.isoformat()}, {row.by}: {row.why}"
            print(inert(line))
        return 0
    if options.remove:
        acknowledgements.remove(path, settings.name, options.remove)
        print(f"the acknowledgement of {options.remove} is removed")
        return 0
    made = acknowledgements.acknowledge(
        options.env or "", options.finding, until=options.until, why=options.why, folder=options.out
    )
    print(f"{made.finding} is acknowledged until {made.until.isoformat()}")
    return 0
