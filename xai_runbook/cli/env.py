"""`xai-runbook env list | show`: which environments there are, and where each setting comes from."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from xai_runbook.cli.parser import add_command, add_group
from xai_runbook.cli.table import print_table

if TYPE_CHECKING:
    from xai_runbook.cli.parser import Commands


def add_commands(commands: Commands) -> None:
    """Add `env`."""
    verbs = add_group(
        commands,
        "env",
        "list the environments, and where each setting comes from",
        description="The environments and their settings.",
        examples="xai-runbook env list\nxai-runbook env show database --env production",
    )
    listing = add_command(
        verbs,
        "list",
        "list the environments and their files",
        examples="xai-runbook env list",
        run=_list,
        env="",
    )
    show = add_command(
        verbs,
        "show",
        "show each setting with the file and line that sets it",
        description="Show each setting with the file and line, or the variable, that sets it. Secrets are references"
        " in the settings, and shown as such.",
        examples="xai-runbook env show --env production\nxai-runbook env show limits.database --env production",
        run=_show,
    )
    show.add_argument("key", nargs="*", metavar="KEY", help="a table or key, such as database or limits.database.pool")
    for command in (listing, show):
        command.add_argument("--json", action="store_true", help="print a list of objects as JSON")


def _list(options: argparse.Namespace) -> int:
    from xai_runbook.settings.sources import environments

    found = environments()
    if options.json:
        rows = [{"name": each.name, "file": str(each.path), "problem": each.problem} for each in found]
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        print_table(
            [[each.name, str(each.path), f"not used: {each.problem}" if each.problem else ""] for each in found]
        )
    return 0


def _show(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from xai_runbook.errors import InputError, inert
    from xai_runbook.settings.sources import sources
    from xai_runbook.system.suggestions import suggestion

    found = sources(options.env or "")
    for key in options.key:
        if not any(each.key == key or each.key.startswith(f"{key}.") for each in found):
            tables = sorted({part for each in found for part in (each.key, each.key.rpartition(".")[0])} - {""})
            raise InputError(f"no setting is called {inert(key, 100)!r}", hint=suggestion(key, tables))
    chosen = [
        each
        for each in found
        if not options.key or any(each.key == key or each.key.startswith(f"{key}.") for key in options.key)
    ]
    if options.json:
        print(json.dumps([asdict(each) for each in chosen], ensure_ascii=False, indent=1))
    else:
        print_table([[each.key, each.value, each.origin] for each in chosen])
    return 0
