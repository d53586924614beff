"""The command line `xai-runbook`; `xai-runbook COMMAND --help` shows examples."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from xai_runbook.cli.parser import COULD_NOT_RUN, ENV_HELP, HelpFormatter, Parser
from xai_runbook.errors import XaiRunbookError, inert

INTERRUPTED = 130
_WRITE_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# each module has add_commands(commands) and imports nothing heavy before one of its commands runs
_MODULES = (
    "env",
    "ping",
    "query",
    "report",
    "ack",
    "changes",
    "journal",
    "sandbox",
    "dashboards",
    "rules",
    "coverage",
    "completion",
)


class _Version(argparse.Action):
    """Prints the version and exits; looks it up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"xai-runbook {version('xai_runbook')}")
        parser.exit()


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="xai-runbook",
        description="The XAI blockchain's operations runbook: checks, reports, changes, and a sandbox to practise in.",
        epilog="examples:\n  xai-runbook sandbox up && xai-runbook check\n  xai-runbook --env production ping",
        formatter_class=HelpFormatter,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    top.add_argument("--env", dest="env_before", metavar="NAME", help=ENV_HELP)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for module in _MODULES:
        import_module(f"xai_runbook.cli.{module}").add_commands(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 3 if it could not run or answer, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        _choose_environment(options)
        code = int(options.run(options))
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
        return code
    except XaiRunbookError as error:
        print(f"xai-runbook: {inert(str(error))}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("xai-runbook: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.filename is not None or error.errno not in _WRITE_ERRORS:
            raise
        # the answer did not arrive, so the exit code must not be that of an answer
        if not isinstance(error, BrokenPipeError):  # `xai-runbook coverage | head` is not an error
            print(f"xai-runbook: the answer cannot be written: {error.strerror}", file=sys.stderr)
        # else Python reports the same error again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_RUN


def _choose_environment(options: argparse.Namespace) -> None:
    """Set `env` from the option before or after the command."""
    before, after = getattr(options, "env_before", None), getattr(options, "env", None)
    if before and not hasattr(options, "env"):
        options.usage_error("this command takes no --env")
    if before and after and before != after:
        options.usage_error(f"--env is given twice: {before} and {after}")
    if before or after:
        options.env = import_module("xai_runbook.settings.loading").select_environment(before or after)


if __name__ == "__main__":
    sys.exit(main())
