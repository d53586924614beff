"""`xai-runbook journal list | show | verify | reconcile | init`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from xai_runbook.cli.changes import environment, print_outcome
from xai_runbook.cli.parser import add_command, add_group
from xai_runbook.cli.table import print_table
from xai_runbook.errors import inert

if TYPE_CHECKING:
    from xai_runbook.changes.journal import Entry
    from xai_runbook.cli.parser import Commands

_WITHOUT_PLAN = {"stopped": "stop all changes", "resumed": "allow changes again", "replaced": "replace the journal"}
"""Records that have no plan, by kind, and what was done."""


def add_commands(commands: Commands) -> None:
    """Add `journal`."""
    verbs = add_group(
        commands,
        "journal",
        "show, verify and reconcile the journal of changes",
        description="The journal of an environment's changes: what was changed, by whom, why, and the outcome.",
        examples="xai-runbook journal list\nxai-runbook journal reconcile 17 --as failed --why 'I looked'",
    )
    listing = add_command(
        verbs, "list", "list all entries", examples="xai-runbook journal list --env production", run=_list
    )
    show = add_command(
        verbs, "show", "show one entry with its plan and outcome", examples="xai-runbook journal show 17", run=_show
    )
    show.add_argument("entry", type=int, metavar="N", help="the number of an entry")
    verify = add_command(
        verbs,
        "verify",
        "verify the chain of hashes of all records",
        examples="xai-runbook journal verify --env production",
        run=_verify,
    )
    reconcile = add_command(
        verbs,
        "reconcile",
        "find out what an entry of unknown outcome did",
        description="Find out from the servers what an entry of unknown outcome did, and record it. Where only a person"
        " can know, --as and --why record what the person found.",
        examples="xai-runbook journal reconcile 17\nxai-runbook journal reconcile 17 --as failed --why 'I looked'",
        run=_reconcile,
    )
    reconcile.add_argument("entry", type=int, metavar="N", help="the number of an entry")
    reconcile.add_argument(
        "--as", dest="status", choices=("done", "failed"), default="", help="the outcome that a person found"
    )
    reconcile.add_argument("--why", default="", metavar="TEXT", help="how the person knows")
    for command in (listing, show, verify, reconcile):
        command.add_argument("--json", action="store_true", help="print JSON")
    init = add_command(
        verbs,
        "init",
        "create the journal of an environment, once",
        description="Create the journal of an environment, once. With --replace, a person accepts the journal that is"
        " in the folder now in place of one that is lost.",
        examples="xai-runbook journal init --env production",
        run=_init,
    )
    init.add_argument("--replace", action="store_true", help="accept another journal than the one known here")
    init.add_argument("--why", default="", metavar="TEXT", help="with --replace: the reason")


def _list(options: argparse.Namespace) -> int:
    from xai_runbook.changes.journals import journal_of

    journal = journal_of(environment(options))
    entries = journal.entries()
    if options.json:
        print(json.dumps([_as_json(entry) for entry in entries], indent=2))
        return 0
    if not entries:
        print("no entries: nothing has been changed with this journal")
    rows = {entry.number: _row(entry) for entry in entries}
    for record in journal.records():
        if record["kind"] in _WITHOUT_PLAN:
            rows[record["number"]] = _row_without_plan(record)
    print_table([rows[number] for number in sorted(rows)], right=[0])
    return 0


def _show(options: argparse.Namespace) -> int:
    from xai_runbook.changes import reconcile
    from xai_runbook.changes.journals import journal_of
    from xai_runbook.model.plans import Plan

    entry = reconcile.entry_of(journal_of(environment(options)), options.entry)
    if options.json:
        print(json.dumps(_as_json(entry), indent=2))
        return 0
    print_table([_row(entry)])
    print(Plan.from_json(entry.intent["plan"]))
    outcome = entry.reconciled or entry.outcome
    print(inert(f"  outcome     {outcome['summary'] if outcome else 'none: apply ended before it could record one'}"))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from xai_runbook.changes.journals import journal_of

    count = journal_of(environment(options)).verify()
    print(json.dumps({"records": count}) if options.json else f"{count} records, all unchanged")
    return 0


def _reconcile(options: argparse.Namespace) -> int:
    from xai_runbook.changes import reconcile

    outcome = reconcile.reconcile(environment(options), options.entry, status=options.status, why=options.why)
    print_outcome(outcome, as_json=options.json)
    return 3 if outcome.status == "unknown" else 0


def _init(options: argparse.Namespace) -> int:
    from xai_runbook.changes.journals import init, unchecked_journal

    env = environment(options)
    print(init(unchecked_journal(env), env.name, replace=options.replace, why=options.why))
    return 0


def _row(entry: Entry) -> list[str]:
    intent = entry.intent
    plan = intent["plan"]
    cells = [
        entry.number,
        intent["at"][:19],
        entry.status,
        intent["environment"],
        f"{intent['user']}@{intent['host']}",
        f"{plan['verb']} {', '.join(plan['targets'])}",
        intent["reason"],
    ]
    return [inert(str(cell)) for cell in cells]


def _row_without_plan(record: dict[str, Any]) -> list[str]:
    person = f"{record['user']}@{record['host']}"
    cells = [
        record["number"],
        record["at"][:19],
        record["kind"],
        "",
        person,
        _WITHOUT_PLAN[record["kind"]],
        record["why"],
    ]
    return [inert(str(cell)) for cell in cells]


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "entry": entry.number,
        "status": entry.status,
        "intent": entry.intent,
        "outcome": entry.outcome,
        "reconciled": entry.reconciled,
    }
