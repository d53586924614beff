"""The command line: `xai-runbook COMMAND --help` has an example of each."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from xai_runbook.cli.parser import COULD_NOT_TELL, Parser
from xai_runbook.errors import XaiRunbookError, inert

INTERRUPTED = 130
_UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# each has add_commands(subparsers) and imports nothing heavy before one of its commands runs
_MODULES = (
    "ping",
    "query",
    "report",
    "changes",
    "sandbox",
    "dashboards",
    "rules",
    "coverage",
)


def parser() -> argparse.ArgumentParser:
    """The whole command line's parser."""
    whole = Parser(
        prog="xai-runbook",
        description="The XAI blockchain's operations runbook: questions, reports and a sandbox to rehearse in.",
        epilog="Start here:  xai-runbook sandbox up && xai-runbook check",
    )
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for module in _MODULES:
        import_module(f"xai_runbook.cli.{module}").add_commands(commands)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; 3 where it could not be run or told, 130 where Ctrl-C ended it."""
    options = parser().parse_args(arguments)
    try:
        if getattr(options, "env", None):
            options.env = import_module("xai_runbook.settings.loading").select_environment(options.env)
        code = int(options.run(options))
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
        return code
    except XaiRunbookError as error:
        print(f"xai-runbook: {inert(str(error))}", file=sys.stderr)
        return COULD_NOT_TELL
    except KeyboardInterrupt:
        print("xai-runbook: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITTEN:
            raise
        # what was found did not arrive, so it is not for its exit code to say either that all is well or what is not
        if not isinstance(error, BrokenPipeError):  # `xai-runbook coverage | head` is nobody's fault
            print(f"xai-runbook: the answer cannot be written: {error.strerror}", file=sys.stderr)
        # Python must not complain of it at exit too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_TELL


if __name__ == "__main__":
    sys.exit(main())
