"""`xai-runbook plan | apply | undo | stop | resume`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_runbook.cli.parser import HelpFormatter, Parser, add_command
from xai_runbook.cli.table import print_table
from xai_runbook.errors import InputError, Refused
from xai_runbook.system.suggestions import suggestion

if TYPE_CHECKING:
    from xai_runbook.cli.parser import Commands
    from xai_runbook.environment import Environment
    from xai_runbook.model.outcome import Outcome
    from xai_runbook.model.plans import Plan

_MAX_PLAN_BYTES = 4 * 2**20


def add_commands(commands: Commands) -> None:
    """Add the commands that plan, apply, undo and stop changes."""
    plan = add_command(
        commands,
        "plan",
        "show what a change would do, and change nothing",
        description="Plan CHANGE against the servers as they are now, or show the plan in FILE. Nothing is changed."
        " `xai-runbook plan list` lists the changes; `xai-runbook plan CHANGE --help` shows a change's arguments.",
        examples="""\
xai-runbook plan list
xai-runbook plan database.terminate --pids 4711 --out end.plan.json
xai-runbook plan show end.plan.json""",
        run=run_plan,
    )
    plan.add_argument("change", metavar="CHANGE | show FILE | list")
    plan.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the arguments of CHANGE")

    apply = add_command(
        commands,
        "apply",
        "apply the plan in FILE after a person has confirmed it",
        description="Show the plan, ask for its confirmation and apply it. Without a terminal, only additive plans that"
        " the settings allow by name are applied.\n\nExits with 0 done, 1 nothing done, 3 unknown or refused.",
        examples="xai-runbook apply end.plan.json --reason INC-1234",
        run=run_apply,
        env="the environment, if it is not the plan's own",
    )
    apply.add_argument("file", metavar="FILE", type=Path)
    apply.add_argument("--reason", default="", help="a text for the journal, such as an incident number")
    apply.add_argument("--json", action="store_true", help="print the outcome as JSON")

    undo = add_command(
        commands,
        "undo",
        "plan the undo of a journal entry, and change nothing",
        examples="xai-runbook undo 17 --out undo.plan.json && xai-runbook apply undo.plan.json",
        run=run_undo,
    )
    undo.add_argument("entry", type=int, metavar="N", help="the number of a journal entry")
    undo.add_argument("--out", type=Path, metavar="FILE", help="write the plan to FILE")
    undo.add_argument("--json", action="store_true", help="print the plan as JSON")

    stop = add_command(
        commands,
        "stop",
        "stop all changes of the environment until `resume`",
        description="Stop all changes of the environment until `resume`. A running change stops before its next step.",
        examples="xai-runbook stop --why 'INC-1234: leave the database alone'",
        run=run_stop,
    )
    stop.add_argument("--why", required=True, metavar="TEXT", help="the reason, which refused changes show")
    resume = add_command(
        commands,
        "resume",
        "allow changes again after `stop`; needs a person",
        examples="xai-runbook resume --why 'INC-1234 is over'",
        run=run_resume,
    )
    resume.add_argument("--why", default="", metavar="TEXT", help="the reason, for the journal")


def run_plan(options: argparse.Namespace) -> int:
    """Make, show or list plans; return 0, or 3 for a plan that is refused."""
    from xai_runbook.cli import change_arguments

    if options.change == "list":
        list_parser().parse_args(options.arguments)
        print_table(change_arguments.summaries(), indent=2)
        return 0
    if options.change == "show":
        shown = show_parser().parse_args(options.arguments)
        plan, digest = read_plan(shown.file)
        if digest != plan.digest:
            print("EDITED after it was made: apply will refuse it", file=sys.stderr)
        return _show(plan, None, as_json=shown.json)
    if "." not in options.change:
        known = ["list", "show", *(name for name, _ in change_arguments.summaries())]
        options.usage_error(f"unknown change {options.change!r}. Try: {suggestion(options.change, known)}")
    plan, out, as_json = change_arguments.requested_plan(options.change, options.arguments, options.env)
    return _show(plan, out, as_json=as_json)


def list_parser() -> Parser:
    """Return the parser of `xai-runbook plan list`."""
    return Parser(
        prog="xai-runbook plan list",
        description="List the changes.",
        epilog="examples:\n  xai-runbook plan list",
        formatter_class=HelpFormatter,
    )


def show_parser() -> Parser:
    """Return the parser of `xai-runbook plan show FILE`."""
    parser = Parser(
        prog="xai-runbook plan show",
        description="Show the plan in a file.",
        epilog="examples:\n  xai-runbook plan show end.plan.json",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    return parser


def run_apply(options: argparse.Namespace) -> int:
    """Apply a plan; return the outcome's exit code."""
    from xai_runbook.changes.apply import apply, apply_headless, preflight
    from xai_runbook.environment import connect
    from xai_runbook.model.outcome import Outcome
    from xai_runbook.system import interactive

    plan, digest = read_plan(options.file)
    if digest != plan.digest:  # before a person reads and confirms it
        raise Refused("the plan was edited after it was made", on=str(options.file), hint="make the plan anew")
    env = connect(options.env or plan.environment)
    out = sys.stderr if options.json else sys.stdout
    if plan.refused:
        raise Refused(plan.refused, on=f"environment {plan.environment}")
    if not plan.steps:
        print(plan, file=out)
        print("there is nothing to do", file=out)
        return 0
    if interactive.is_interactive():
        preflight(plan, env, digest=digest)  # refuse before a person types the confirmation
        print(plan, file=out)
        print("type the confirmation to apply it, anything else to cancel: ", end="", file=out, flush=True)
        typed = sys.stdin.readline().strip()
        if not typed:
            print("nothing was done", file=out)
            return 1
        outcome = apply(plan, env, confirm=typed, reason=options.reason, digest=digest)
    else:
        outcome = apply_headless(plan, env, digest=digest, reason=options.reason)
    assert isinstance(outcome, Outcome)  # because there are steps and a confirmation
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print_outcome(outcome, as_json=options.json)
    return outcome.exit_code


def run_undo(options: argparse.Namespace) -> int:
    """Show the plan that undoes a journal entry."""
    from xai_runbook.changes import reconcile

    return _show(reconcile.undo(environment(options), options.entry), options.out, as_json=options.json)


def run_stop(options: argparse.Namespace) -> int:
    """Stop all changes; say on standard error if the journal has no entry of it."""
    from xai_runbook.changes.stop import stop

    env = environment(options)
    not_recorded = stop(env, options.why)
    print("changes are stopped")
    if not_recorded:
        print(f"the journal has no entry of this: {not_recorded}", file=sys.stderr)
    return 0


def run_resume(options: argparse.Namespace) -> int:
    """Allow changes again."""
    from xai_runbook.changes.stop import resume

    was_stopped = resume(environment(options), options.why)
    print("changes may be applied again" if was_stopped else "changes were not stopped")
    return 0


def read_plan(path: Path) -> tuple[Plan, str]:
    """Return the plan in a file, and the digest beside it. Errors: InputError."""
    from xai_runbook.model.plans import Plan

    try:
        with path.open("rb") as file:
            content = file.read(_MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise InputError(f"the plan cannot be read: {error.strerror}", on=str(path)) from None
    try:
        if len(content) > _MAX_PLAN_BYTES:
            raise ValueError("too large")
        data: Any = json.loads(content)
        return Plan.from_json(data["plan"]), str(data["digest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError("the file is not a plan", on=str(path), hint="xai-runbook plan CHANGE --out FILE") from None


def environment(options: argparse.Namespace) -> Environment:
    """Return the environment without connecting: the journal can be read and stopped while the sandbox is down."""
    from xai_runbook.environment import Environment
    from xai_runbook.settings import loading

    return Environment(loading.load(options.env or ""))


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Print an outcome for people, or as JSON."""
    print(json.dumps(outcome.to_json(), indent=2) if as_json else str(outcome))


def _show(plan: Plan, out: Path | None, *, as_json: bool) -> int:
    if out is not None:
        from xai_runbook.system.files import write_atomically

        try:
            write_atomically(out.absolute(), plan.file())
        except OSError as error:
            raise InputError(f"the plan cannot be written: {error.strerror}", on=str(out)) from None
    if as_json:
        print(plan.file().decode(), end="")
    else:
        print(plan)
        if out is not None:
            print(f"  written to  {out}: xai-runbook apply {out}")
    return 3 if plan.refused else 0
