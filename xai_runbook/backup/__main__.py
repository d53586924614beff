"""`python -m xai_runbook.backup VERB ...`: what the steps of backups' plans run, and a person could by hand.

How to reach the database comes in libpq's environment variables, never on the command line. Exit codes: 0 done; 1 not
done, and nothing of it is left; 3 what it did is not known.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from xai_runbook.backup import catalogue
from xai_runbook.backup.programs import Ended, end_on_signals
from xai_runbook.errors import XaiRunbookError, inert
from xai_runbook.parent import die_with_parent


def main(words: list[str] | None = None) -> int:
    """Does one verb; the last line it prints says what came of it."""
    options = _parser().parse_args(words)
    folder: Path = options.folder.expanduser()
    end_on_signals()
    die_with_parent()
    try:
        with catalogue.held(folder):
            catalogue.clean(folder, _say)
            _say(_done(folder, options))
    except XaiRunbookError as error:
        _say(str(error))
        return 1
    except Ended as error:
        _say(f"ended by {error}, and nothing of it is left")
        return 1
    except OSError as error:
        _say(f"{error.strerror}: {error.filename or folder}")
        return 1
    return 0


def _done(folder: Path, options: argparse.Namespace) -> str:
    match options.verb:
        case "dump":
            from xai_runbook.backup.dump import dump
            from xai_runbook.backup.verify import verify

            dump(
                folder, options.name, programs=options.programs, form=options.format, jobs=options.jobs,
                compress=options.compress, say=_say,
            )  # fmt: skip
            try:
                return verify(folder, options.name, programs=options.programs, jobs=options.jobs, say=_say)
            except XaiRunbookError as error:
                raise type(error)(
                    f"{options.name} is there and does not count, because it was not verified: {error.what}",
                    on=error.on, hint=error.hint,
                ) from None  # fmt: skip
        case "verify":
            from xai_runbook.backup.verify import verify

            return verify(folder, options.name, programs=options.programs, jobs=options.jobs, say=_say)
        case "prune":
            from xai_runbook.backup.prune import prune

            return prune(folder, dict(word.split("=", 1) for word in options.backups), _say)
    raise AssertionError(options.verb)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m xai_runbook.backup", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("dump", "verify", "prune"):
        own = verbs.add_parser(verb)
        own.add_argument("--folder", type=Path, required=True)
        if verb == "prune":
            own.add_argument("backups", nargs="+", metavar="NAME=SHA256")
            continue
        own.add_argument("--name", required=True)
        own.add_argument("--programs")
        own.add_argument("--jobs", type=int, default=1)
        if verb == "dump":
            own.add_argument("--format", choices=("custom", "directory"), default="custom")
            own.add_argument("--compress", type=int, default=6)
    return parser


def _say(words: str) -> None:
    with suppress(OSError):  # nobody listens any more
        print(inert(words), flush=True)


if __name__ == "__main__":
    sys.exit(main())
