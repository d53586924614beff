"""The command line's parser: exit code 3 for usage errors, suggestions, and help texts with examples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from xai_runbook.errors import inert
from xai_runbook.system.suggestions import suggestion

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

COULD_NOT_RUN = 3
ENV_HELP = "the environment, or the path of its file (default: $XAI_RUNBOOK_ENV, else sandbox)"


class Parser(argparse.ArgumentParser):
    """A parser that reports its own usage errors, suggests known names, and exits with 3.

    argparse's own exit code 2 would read as a critical alert.
    """

    def error(self, message: str) -> NoReturn:
        """Print this command's usage and the message; exit with 3."""
        self.print_usage(sys.stderr)
        self.exit(COULD_NOT_RUN, f"{self.prog}: {inert(message)}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the arguments; refuse unknown ones here, because argparse would leave them to the top-level parser."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [name for action in self._actions for name in action.option_strings]
            option = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
            self.error(
                f"unrecognized arguments: {' '.join(unknown)}"
                + (f". Try: {suggestion(option, names)}" if option else "")
            )
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"invalid choice {value!r}. Try: {suggestion(value, action.choices)}")


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs of descriptions, and keeps indented lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            paragraph if "\n " in paragraph else super(HelpFormatter, self)._fill_text(paragraph, width, indent)
            for paragraph in paragraphs
        )


def add_command(
    commands: Commands,
    name: str,
    summary: str,
    *,
    examples: str,
    description: str = "",
    run: Callable[[argparse.Namespace], int] | None = None,
    env: str = ENV_HELP,
) -> argparse.ArgumentParser:
    """Add a command and return its parser.

    `examples` are lines of a shell. `run` gets the parsed arguments, with `usage_error` to refuse a combination of
    them, and returns the exit code. `env` is the help of the option --env; without it, the command has no such option.
    """
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    parser = commands.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=HelpFormatter,
    )
    if run is not None:
        parser.set_defaults(run=run, usage_error=parser.error)
    if env:
        parser.add_argument("--env", metavar="NAME", help=env)
    return parser


def add_group(commands: Commands, name: str, summary: str, *, examples: str, description: str = "") -> Commands:
    """Add a command that only has subcommands, and return what these are added to."""
    parser = add_command(commands, name, summary, examples=examples, description=description, env="")
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
