"""`xai-runbook completion bash | zsh`: the completion script of a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xai_runbook.cli.parser import add_command, add_group

if TYPE_CHECKING:
    from xai_runbook.cli.parser import Commands

_LIST_ENVIRONMENTS = "xai-runbook completion environments"
_FUNCTION = "_xai_runbook_environments"
_PREAMBLE = {
    "bash": f'{_FUNCTION}() {{ compgen -W "$({_LIST_ENVIRONMENTS} 2>/dev/null)" -- "$1"; }}',
    "zsh": f'{_FUNCTION}() {{ compadd -- ${{(f)"$({_LIST_ENVIRONMENTS} 2>/dev/null)"}} }}',
}
"""Shell functions that list the environments at that moment: users add and remove them."""


def add_commands(commands: Commands) -> None:
    """Add `completion`."""
    verbs = add_group(
        commands,
        "completion",
        "print the completion script of a shell",
        description="Print the completion script of a shell. It completes commands, options, findings, changes with"
        " their arguments, faults and notebooks of this version, and the environments that exist at that moment.",
        examples="""\
xai-runbook completion bash > ~/.local/share/bash-completion/completions/xai-runbook
xai-runbook completion zsh > ~/.zfunc/_xai-runbook""",
    )
    add_command(
        verbs,
        "bash",
        "print the script for bash",
        examples="xai-runbook completion bash > ~/.local/share/bash-completion/completions/xai-runbook",
        run=lambda options: _print_script("bash"),
        env="",
    )
    add_command(
        verbs,
        "zsh",
        "print the script for zsh",
        description="Print the script for zsh; its folder must be in fpath before compinit runs.",
        examples="xai-runbook completion zsh > ~/.zfunc/_xai-runbook    # in ~/.zshrc: fpath+=(~/.zfunc)",
        run=lambda options: _print_script("zsh"),
        env="",
    )
    add_command(
        verbs,
        "environments",
        "list the names of environments, for the scripts",
        examples=_LIST_ENVIRONMENTS,
        run=_print_environments,
        env="",
    )


def _print_script(shell: str) -> int:
    import shtab

    print(shtab.complete(_parser_with_names(), shell, preamble=_PREAMBLE[shell]))
    return 0


def _print_environments(options: argparse.Namespace) -> int:
    from xai_runbook.settings.loading import names

    print("\n".join(names()))
    return 0


def _parser_with_names() -> argparse.ArgumentParser:
    """Return the whole parser, with the names and files that each argument takes."""
    import shtab

    from xai_runbook.cli.main import parser
    from xai_runbook.reports.notebooks import cells
    from xai_runbook.sandbox.faults.table import FAULTS

    questions = [cell for cell in cells.read(cells.find(cells.HEALTH_REPORT)) if cell.is_question]
    choices = {"FINDING": [cell.id for cell in questions], "FAULT": list(FAULTS), "NOTEBOOK": cells.names()}
    files = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}
    top = parser()
    _add_changes(top)
    for action in _actions(top):
        if "--env" in action.option_strings:
            action.complete = dict.fromkeys(_PREAMBLE, _FUNCTION)  # type: ignore[attr-defined]
        elif action.metavar in files:
            action.complete = files[str(action.metavar)]  # type: ignore[attr-defined]
        elif action.metavar in choices:
            action.choices = choices[str(action.metavar)]
    return top


def _add_changes(top: argparse.ArgumentParser) -> None:
    """Make each change a subcommand of `plan`, which otherwise reads a change's arguments only when it runs."""
    from xai_runbook.changes import registry
    from xai_runbook.cli import change_arguments
    from xai_runbook.cli.changes import list_parser, show_parser

    plan = next(command for name, command in _subcommands(top) if name == "plan")
    for action in plan._get_positional_actions():
        plan._remove_action(action)
    parsers = {"list": list_parser(), "show": show_parser()}
    parsers |= {name: change_arguments.parser(name) for name in registry.change_names()}
    summaries = dict(change_arguments.summaries())
    changes = plan.add_subparsers(metavar="CHANGE")
    for name, parser in parsers.items():
        changes.add_parser(name, parents=[parser], add_help=False, help=summaries.get(name, parser.description))


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from parser._actions
    for _, command in _subcommands(parser):
        yield from _actions(command)
