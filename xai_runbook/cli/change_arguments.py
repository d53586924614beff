"""The command line of a change, generated from its signature and docstring."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xai_runbook.changes import registry
from xai_runbook.changes.preflight import skip_if_fulfilled
from xai_runbook.cli.parser import ENV_HELP, Parser
from xai_runbook.model.plans import Plan

_EXAMPLES = {int: "4711", str: "NAME", float: "0.5"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "int": {"type": int},
    "float": {"type": float},
    "str": {"type": str},
    "list[int]": {"type": int, "nargs": "+"},
    "list[str]": {"type": str, "nargs": "+"},
    "bool": {"action": argparse.BooleanOptionalAction},
}


def summaries() -> list[tuple[str, str]]:
    """Return the name of each change and the first line of its docstring."""
    docs = {name: registry.find_change(name).__doc__ or "" for name in registry.change_names()}
    lines = {name: doc.strip().splitlines()[0] for name, doc in docs.items()}
    return [(name, line.removeprefix("Plan to ").removeprefix("A Plan that ")) for name, line in lines.items()]


def parser(name: str) -> Parser:
    """Return the parser of a change's arguments. Errors: Refused if there is no such change."""
    function = registry.find_change(name)
    made = Parser(
        prog=f"xai-runbook plan {name}",
        description=inspect.cleandoc(function.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n  xai-runbook plan {name}{_example(function)} --out change.plan.json",
    )
    for argument, parameter in registry.arguments_of(function).items():
        options = _options(function, argument)
        required = parameter.default is parameter.empty
        made.add_argument(
            f"--{argument.replace('_', '-')}",
            dest=argument,
            help=_help(options),
            required=required,
            default=None if required else parameter.default,
            **options,
        )
    made.add_argument("--env", metavar="NAME", help=ENV_HELP)
    made.add_argument("--out", type=Path, metavar="FILE", help="write the plan to FILE, for xai-runbook apply")
    made.add_argument("--json", action="store_true", help="print the plan and its digest as JSON")
    return made


def requested_plan(name: str, words: Sequence[str], env: str | None) -> tuple[Plan, Path | None, bool]:
    """Return the plan of a change, the file to write it to, and whether to print it as JSON.

    `words` are the arguments after the change's name, and `env` is an environment given before it.
    """
    from xai_runbook.environment import connect
    from xai_runbook.settings.loading import select_environment

    change_parser = parser(name)
    options = change_parser.parse_args(words)
    if env and options.env and env != options.env:
        change_parser.error(f"--env is given twice: {env} and {options.env}")
    arguments = {argument: getattr(options, argument) for argument in registry.arguments_of(registry.find_change(name))}
    connected = connect(select_environment(options.env or env or ""))
    plan = registry.make_plan(connected, name, arguments)
    return skip_if_fulfilled(connected, plan), options.out, options.json


def _options(function: Any, name: str) -> dict[str, Any]:
    """Return the options of argparse for an argument of a change, from its annotation."""
    annotation = inspect.signature(function).parameters[name].annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return _OPTIONS[text.removesuffix(" | None")]


def _help(options: dict[str, Any]) -> str:
    kind: str = options.get("type", bool).__name__
    return f"one or more: {kind}" if "nargs" in options else kind


def _example(function: Any) -> str:
    parameters = registry.arguments_of(function)
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    return "".join(
        f" --{name.replace('_', '-')} {_EXAMPLES.get(_options(function, name).get('type', str), 'x')}"
        for name in required
    )
