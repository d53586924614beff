"""`xai-runbook coverage`: which items of the runbook are answered, and where."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from xai_runbook.cli.parser import add_command
from xai_runbook.cli.table import print_table

if TYPE_CHECKING:
    from xai_runbook.cli.parser import Commands


def add_commands(commands: Commands) -> None:
    """Add `coverage`."""
    command = add_command(
        commands,
        "coverage",
        "list the runbook's items and where each is answered",
        description="List the runbook's items: number, line, text, the operation that answers it, the notebook that"
        " asks it, and the number of its tests.",
        examples="xai-runbook coverage\nxai-runbook coverage --json",
        run=_run,
        env="",
    )
    command.add_argument("--json", action="store_true", help="print a list of objects as JSON")


def _run(options: argparse.Namespace) -> int:
    from xai_runbook.runbook.coverage import coverage

    rows = coverage()
    if options.json:
        import json

        print(json.dumps([row._asdict() for row in rows], ensure_ascii=False, indent=1))
        return 0
    print_table(
        [
            [
                str(row.item),
                str(row.line),
                " ".join(row.literal.replace("\\\n", " ").split()),
                row.operation or "-",
                row.notebook or "-",
                "-" if row.tests is None else str(len(row.tests)),
            ]
            for row in rows
        ],
        right=[0, 1, 5],
    )
    print(f"{sum(row.answered for row in rows)} of {len(rows)}")
    return 0
