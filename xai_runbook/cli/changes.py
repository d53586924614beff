"""`xai-runbook plan | apply | journal | undo | stop | resume`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.errors import InputError, Refused, inert

if TYPE_CHECKING:
    from xai_runbook.environment import Environment
    from xai_runbook.model.outcome import Outcome
    from xai_runbook.model.plans import Plan

_MOST_PLAN_BYTES = 4 * 2**20


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands of the changing side."""
    raw = argparse.RawDescriptionHelpFormatter
    plan = commands.add_parser(
        "plan",
        help="what a change would do; nothing is done",
        formatter_class=raw,
        description="Plans CHANGE in the world as it is now, or shows a plan's FILE.\n"
        "`xai-runbook plan CHANGE --help` has the change's own arguments; `xai-runbook plan list` lists the changes.",
        epilog="Examples:\n  xai-runbook plan list\n"
        "  xai-runbook plan database.terminate --pids 4711 --out end.plan.json\n"
        "  xai-runbook plan show end.plan.json",
    )
    plan.add_argument("change", metavar="CHANGE | show FILE | list")
    plan.add_argument("words", nargs=argparse.REMAINDER, metavar="...")
    plan.set_defaults(run=run_plan)

    apply = commands.add_parser(
        "apply",
        help="carries out a plan's FILE, once a person has typed its words",
        formatter_class=raw,
        description="Shows the plan and asks for its confirmation. Exits 0 done, 1 nothing done, 3 unknown\n"
        "or refused. Without a terminal only additive plans that the settings allow by name are carried out.",
        epilog="Example:\n  xai-runbook apply end.plan.json --reason INC-1234",
    )
    apply.add_argument("file", metavar="FILE", type=Path)
    apply.add_argument("--env", help="the environment, where it is not the plan's own")
    apply.add_argument("--reason", default="", help="free text for the journal, such as an incident number")
    apply.add_argument("--json", action="store_true", help="the outcome, for programs")
    apply.set_defaults(run=run_apply)

    journal = commands.add_parser(
        "journal",
        help="what was changed, by whom, why, and what came of it",
        formatter_class=raw,
        description="list: one line an entry. show N: everything about it. verify: proves every record.\n"
        "reconcile N: looks what an unknown entry did; --as says it where only a person can.\n"
        "init: makes the journal, once; with --replace, a person takes what is there now for the one that is lost.",
        epilog="Examples:\n  xai-runbook journal list\n  xai-runbook journal reconcile 17 --as failed --why 'I looked'",
    )
    journal.add_argument("verb", choices=("list", "show", "verify", "reconcile", "init"))
    journal.add_argument("entry", nargs="?", type=int, metavar="N")
    journal.add_argument("--as", dest="status", choices=("done", "failed"), default="")
    journal.add_argument("--why", default="")
    journal.add_argument("--replace", action="store_true", help="with init: for a journal that is lost")
    journal.add_argument("--env")
    journal.add_argument("--json", action="store_true", help="for programs")
    journal.set_defaults(run=run_journal)

    undo = commands.add_parser(
        "undo",
        help="makes the plan of the way back from a journal entry; nothing is done",
        formatter_class=raw,
        epilog="Example:\n  xai-runbook undo 17 --out back.plan.json && xai-runbook apply back.plan.json",
    )
    undo.add_argument("entry", type=int, metavar="N")
    undo.add_argument("--env")
    undo.add_argument("--out", type=Path, metavar="FILE", help="writes the plan there")
    undo.add_argument("--json", action="store_true", help="the plan, for programs")
    undo.set_defaults(run=run_undo)

    stop = commands.add_parser(
        "stop",
        help="nothing changes any more, from the next step on, until resume",
        formatter_class=raw,
        epilog="Example:\n  xai-runbook stop --why 'INC-1234: nobody touches the database'",
    )
    stop.add_argument("--why", required=True)
    stop.add_argument("--env")
    stop.set_defaults(run=run_stop)
    resume = commands.add_parser("resume", help="ends a stop", epilog="Example:  xai-runbook resume")
    resume.add_argument("--env")
    resume.set_defaults(run=run_resume)


def run_plan(options: argparse.Namespace) -> int:
    """Shows a plan; 0, or 3 for one that is refused here."""
    from xai_runbook.cli import change_arguments

    if options.change == "list":
        listed = list(change_arguments.listed())
        widest = max(len(name) for name, _ in listed)
        for name, says in listed:
            print(f"  {name:<{widest}}  {says.removeprefix('Plan to ').removeprefix('A Plan that ')}")
        return 0
    if options.change == "show":
        words = [word for word in options.words if word != "--json"]
        if len(words) != 1:
            raise InputError("show takes one plan's file", hint="xai-runbook plan show FILE")
        plan, digest = read_plan(Path(words[0]))
        if digest != plan.digest:
            print("EDITED after it was made: apply will refuse it", file=sys.stderr)
        return _shown(plan, None, as_json="--json" in options.words)
    plan, out, as_json = change_arguments.asked_plan(options.change, options.words)
    return _shown(plan, out, as_json=as_json)


def run_apply(options: argparse.Namespace) -> int:
    """Carries a plan out; the outcome's exit code."""
    from xai_runbook.changes.apply import apply, apply_headless, preflight
    from xai_runbook.environment import connect
    from xai_runbook.model.outcome import Outcome
    from xai_runbook.system import interactive

    plan, digest = read_plan(options.file)
    if digest != plan.digest:  # before anybody reads it and types its words
        raise Refused("the plan was edited after it was made", on=str(options.file), hint="make the plan anew")
    env = connect(options.env or plan.environment)
    out = sys.stderr if options.json else sys.stdout
    if plan.refused:
        raise Refused(plan.refused, on=f"environment {plan.environment}")
    if not plan.steps:
        print(plan, file=out)
        print("there is nothing to do", file=out)
        return 0
    if interactive.is_there():
        preflight(plan, env, digest=digest)  # nobody types in vain
        print(plan, file=out)
        print("type the words to apply it, anything else to leave it: ", end="", file=out, flush=True)
        typed = sys.stdin.readline().strip()
        if not typed:
            print("nothing was done", file=out)
            return 1
        came = apply(plan, env, confirm=typed, reason=options.reason, digest=digest)
    else:
        came = apply_headless(plan, env, digest=digest, reason=options.reason)
    assert isinstance(came, Outcome)  # there are steps, and words
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _said(came, options.json)
    return came.exit_code


def run_journal(options: argparse.Namespace) -> int:
    """Shows or proves the journal, or reconciles one entry."""
    from xai_runbook.changes import reconcile
    from xai_runbook.changes.journals import init, journal_of, unchecked_journal

    env = _environment(options)
    if options.verb == "init":
        print(init(unchecked_journal(env), env.name, replace=options.replace, why=options.why))
        return 0
    journal = journal_of(env)
    if options.verb in ("show", "reconcile") and options.entry is None:
        raise InputError(f"which entry to {options.verb}?", hint=f"xai-runbook journal {options.verb} N")
    if options.verb == "verify":
        count = journal.verify()
        print(json.dumps({"records": count}) if options.json else f"{count} records, every one as it was written")
        return 0
    if options.verb == "reconcile":
        came = reconcile.reconcile(env, options.entry, status=options.status, why=options.why)
        _said(came, options.json)
        return 3 if came.status == "unknown" else 0
    entries = journal.entries() if options.verb == "list" else [reconcile.entry_of(journal, options.entry)]
    told = [
        {
            "entry": entry.number,
            "status": entry.status,
            "intent": entry.intent,
            "outcome": entry.outcome,
            "reconciled": entry.reconciled,
        }
        for entry in entries
    ]
    if options.json:
        print(json.dumps(told if options.verb == "list" else told[0], indent=2))
        return 0
    if not entries:
        print("no entries: nothing has been changed through this journal")
    for entry in entries:
        intent, last = entry.intent, entry.reconciled or entry.outcome
        plan = intent["plan"]
        print(
            inert(
                f"{entry.number:>6}  {intent['at'][:19]}  {entry.status:<7}  {intent['environment']}  {intent['user']}"
                f"@{intent['host']}  {plan['verb']} {', '.join(plan['targets'])}  {intent['reason']}",
                400,
            )
        )
        if options.verb == "show":
            from xai_runbook.model.plans import Plan

            print(Plan.from_json(plan))
            print(inert(f"  came to     {last['summary'] if last else 'it ended before it could say'}"))
    return 0


def run_undo(options: argparse.Namespace) -> int:
    """Shows the plan of the way back."""
    from xai_runbook.changes import reconcile

    return _shown(reconcile.undo(_environment(options), options.entry), options.out, as_json=options.json)


def run_stop(options: argparse.Namespace) -> int:
    """Writes the stop file."""
    from xai_runbook.changes.journals import journal_of
    from xai_runbook.system.files import write_whole

    journal = journal_of(_environment(options))
    write_whole(journal.stop_file, f"{inert(options.why)}\n".encode())
    print(f"nothing changes any more: {journal.stop_file}")
    return 0


def run_resume(options: argparse.Namespace) -> int:
    """Takes the stop file away."""
    from xai_runbook.changes.journals import journal_of

    journal = journal_of(_environment(options))
    was = journal.stop_file.exists()
    journal.stop_file.unlink(missing_ok=True)
    print("changes may be applied again" if was else "changes were not stopped")
    return 0


def read_plan(path: Path) -> tuple[Plan, str]:
    """The plan in a file, and the digest that stands beside it. Errors: InputError."""
    from xai_runbook.model.plans import Plan

    try:
        with path.open("rb") as file:
            content = file.read(_MOST_PLAN_BYTES + 1)
    except OSError as error:
        raise InputError(f"the plan cannot be read: {error.strerror}", on=str(path)) from None
    try:
        if len(content) > _MOST_PLAN_BYTES:
            raise ValueError("too large")
        data: Any = json.loads(content)
        return Plan.from_json(data["plan"]), str(data["digest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError("the file holds no plan", on=str(path), hint="xai-runbook plan CHANGE --out FILE") from None


def _shown(plan: Plan, out: Path | None, *, as_json: bool) -> int:
    if out is not None:
        from xai_runbook.system.files import write_whole

        try:
            write_whole(out.absolute(), plan.file())
        except OSError as error:
            raise InputError(f"the plan cannot be written: {error.strerror}", on=str(out)) from None
    if as_json:
        print(plan.file().decode(), end="")
    else:
        print(plan)
        if out is not None:
            print(f"  written to  {out}: xai-runbook apply {out}")
    return 3 if plan.refused else 0


def _said(came: Outcome, as_json: bool) -> None:
    print(json.dumps(came.to_json(), indent=2) if as_json else str(came))


def _environment(options: argparse.Namespace) -> Environment:
    from xai_runbook.environment import Environment
    from xai_runbook.settings import loading

    # the journal can be read, and stopped, while the sandbox is down
    return Environment(loading.load(options.env or ""))
