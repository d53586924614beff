"""A change's command line, made from its signature and docstring."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

from xai_runbook.changes import registry
from xai_runbook.changes.preflight import skip_if_fulfilled
from xai_runbook.model.plans import Plan


def listed() -> list[tuple[str, str]]:
    """Each change's name, and the first line of its docstring."""
    changes = {name: registry.find_change(name) for name in registry.change_names()}
    return [(name, (change.__doc__ or "").strip().splitlines()[0]) for name, change in changes.items()]


def parser(name: str) -> argparse.ArgumentParser:
    """The parser of one change's own arguments. Errors: Refused where it is none of ours."""
    from xai_runbook.cli.parser import Parser

    function = registry.find_change(name)
    found = Parser(
        prog=f"xai-runbook plan {name}",
        description=inspect.cleandoc(function.__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Example:\n  xai-runbook plan {name}{_example(function)} --out change.plan.json",
    )
    for argument, parameter in registry.arguments_of(function).items():
        known = _type(function, argument)
        found.add_argument(
            f"--{argument.replace('_', '-')}",
            dest=argument,
            help=f"{_words(known)}",
            required=parameter.default is parameter.empty,
            default=None if parameter.default is parameter.empty else parameter.default,
            **known,
        )
    found.add_argument("--env", help="the environment (XAI_RUNBOOK_ENV, else the sandbox)")
    found.add_argument("--out", type=Path, metavar="FILE", help="writes the plan there, for xai-runbook apply")
    found.add_argument("--json", action="store_true", help="the plan and its digest, for programs")
    return found


def asked_plan(name: str, words: list[str]) -> tuple[Plan, Path | None, bool]:
    """The plan that the command line asks for, the file it is to be written to, and whether as JSON."""
    from xai_runbook.environment import connect
    from xai_runbook.settings.loading import select_environment

    options = parser(name).parse_args(words)
    arguments = {argument: getattr(options, argument) for argument in registry.arguments_of(registry.find_change(name))}
    env = connect(select_environment(options.env or ""))
    plan = registry.make_plan(env, name, arguments)
    return skip_if_fulfilled(env, plan), options.out, options.json


def _type(function: Any, name: str) -> dict[str, Any]:
    annotation = inspect.signature(function).parameters[name].annotation
    kinds: dict[str, dict[str, Any]] = {
        "int": {"type": int},
        "float": {"type": float},
        "str": {"type": str},
        "list[int]": {"type": int, "nargs": "+"},
        "list[str]": {"type": str, "nargs": "+"},
        "bool": {"action": argparse.BooleanOptionalAction},
    }
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return kinds[text.removesuffix(" | None")]


def _words(known: dict[str, Any]) -> str:
    return f"one or more: {known['type'].__name__}" if "nargs" in known else known.get("type", bool).__name__


def _example(function: Any) -> str:
    needed = [
        name for name, parameter in registry.arguments_of(function).items() if parameter.default is parameter.empty
    ]
    values = {int: "4711", str: "NAME", float: "0.5"}
    return "".join(
        f" --{name.replace('_', '-')} {values.get(_type(function, name).get('type', str), 'x')}" for name in needed
    )
