"""`python -m xai_runbook.pgbackup VERB ...`: the program that steps of backup plans run; it can be run by hand too.

The connection to the database is taken from libpq's environment variables, never from the command line. Exit codes:
0 done; 1 failed, and nothing was changed; 3 the effect is not known; 4 failed, and the last line names what was left.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from xai_runbook.errors import XaiRunbookError, inert
from xai_runbook.pgbackup import catalog
from xai_runbook.pgbackup.leftovers import EffectUnknown
from xai_runbook.pgbackup.pg_tools import Terminated, end_on_signals
from xai_runbook.system.parent_death import die_with_parent


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return the exit code; the last line that it prints is the result."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb == "swap":
            _say_result(_swap(options))
            return 0
        with catalog.locked_folder(options.folder):
            return _work_in_folder(options)
    except EffectUnknown as error:
        _say(str(error))
        return 3
    except (XaiRunbookError, Terminated, OSError) as error:
        _say(_message(error))
        return 1


def _work_in_folder(options: argparse.Namespace) -> int:
    """Run a verb that uses the folder of backups and return the exit code.

    If it fails, the code depends on what was added to the folder or removed from it. Leftovers of killed runs are
    removed first, which counts as an effect only for the verb `remove`.
    """
    present = before = catalog.inventory(options.folder)
    if options.verb == "remove":
        present = present | catalog.leftovers(options.folder)  # includes logs
    try:
        try:
            catalog.remove_leftovers(options.folder, _say)
        finally:
            before = catalog.inventory(options.folder)
        _say_result(_run_verb(options.folder, options))
        return 0
    except (XaiRunbookError, Terminated, OSError) as error:
        now = catalog.inventory(options.folder)
        missing = sorted(present.keys() - now.keys() - catalog.leftovers(options.folder).keys())
        added = sorted(name for name, verified in now.items() if before.get(name) != verified)
        parts = [_message(error), *([f"removed: {', '.join(missing)}"] if missing else [])]
        parts += [f"left in {options.folder}: {', '.join(added)}"] if added else []
        _say("; ".join(parts))
        removed = missing if options.verb == "remove" else before.keys() - now.keys()
        return 3 if isinstance(error, EffectUnknown) or removed else 4 if added or missing else 1


def _message(error: BaseException) -> str:
    if isinstance(error, Terminated):
        return f"ended by {error}; unfinished work was removed"
    return f"{error.strerror}: {error.filename or ''}" if isinstance(error, OSError) else str(error)


def _run_verb(folder: Path, options: argparse.Namespace) -> str:
    match options.verb:
        case "dump":
            from xai_runbook.pgbackup.dump import dump

            dump(
                folder, options.name, programs=options.programs, form=options.format, jobs=options.jobs,
                compress=options.compress, say=_say,
            )  # fmt: skip
            return _verify_new(folder, options, just_read=True)
        case "base":
            from xai_runbook.pgbackup.base_backup import base_backup

            base_backup(folder, options.name, programs=options.programs, say=_say)
            return _verify_new(folder, options)
        case "low-level":
            from xai_runbook.pgbackup.base_backup import low_level_backup

            low_level_backup(folder, options.name, programs=options.programs, archive=options.archive, say=_say)
            return _verify_new(folder, options)
        case "verify":
            from xai_runbook.pgbackup.verify import verify

            return verify(folder, options.name, programs=options.programs, jobs=options.jobs, say=_say)
        case "prune":
            from xai_runbook.pgbackup.prune import prune

            sums = dict(entry.split("=", 1) for entry in options.backups)
            return prune(folder, sums, _say, server=options.server)
        case "recover":
            from xai_runbook.pgbackup.recovery_drill import drill

            setting = "recovery_target_time" if options.time else "recovery_target_lsn"
            return drill(
                folder, options.name, options.base, programs=options.programs, archive=options.archive,
                target_settings={setting: options.time or options.lsn}, expected=options.expect, keep=options.keep,
                say=_say,
            )  # fmt: skip
        case "remove":
            from xai_runbook.pgbackup.dump import session
            from xai_runbook.pgbackup.leftovers import remove_all

            with session() as source:
                return remove_all(source, dict(entry.split("=", 1) for entry in options.databases), _say)
        case "restore":
            from xai_runbook.pgbackup.restore_into import restore_into

            return restore_into(
                folder, options.name, options.into, programs=options.programs, jobs=options.jobs, say=_say,
                from_server=options.from_server,
            )  # fmt: skip
    raise AssertionError(options.verb)


def _swap(options: argparse.Namespace) -> str:
    from xai_runbook.pgbackup.restore_into import last_restored_oid, swap

    return swap(
        options.live,
        options.restored,
        options.keep_as,
        live_oid=options.live_oid,
        restored_oid=options.restored_oid or last_restored_oid(options.folder, options.backup, options.restored),
        maintenance=options.maintenance,
        reader=options.reader,
        say=_say,
    )


def _verify_new(folder: Path, options: argparse.Namespace, *, just_read: bool = False) -> str:
    """Verify the new backup. It is kept if that fails, and is not usable then."""
    from xai_runbook.pgbackup.verify import verify

    try:
        return verify(folder, options.name, programs=options.programs, jobs=options.jobs, say=_say, just_read=just_read)
    except XaiRunbookError as error:
        what = f"{options.name} exists but is not usable, because its verification failed: {error.what}"
        raise type(error)(what, on=error.on, hint=error.hint) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m xai_runbook.pgbackup", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    commands: dict[str, argparse.ArgumentParser] = {}
    for verb in ("dump", "base", "low-level", "verify", "restore", "recover", "prune", "remove"):
        commands[verb] = verbs.add_parser(verb)
        commands[verb].add_argument("--folder", type=_path, required=True)
        if verb not in ("prune", "remove"):
            commands[verb].add_argument("--name", required=True)
            commands[verb].add_argument("--programs", help="the folder of PostgreSQL's programs")
            commands[verb].add_argument("--jobs", type=int, default=1)
        if verb in ("low-level", "recover"):
            commands[verb].add_argument("--archive", type=_path, help="the WAL archive")
    swap = verbs.add_parser("swap")
    for name in ("--live", "--live-oid", "--restored", "--keep-as"):
        swap.add_argument(name, required=True)
    oid_source = swap.add_mutually_exclusive_group(required=True)
    oid_source.add_argument("--restored-oid", help="the oid of the restored database")
    oid_source.add_argument("--backup", help="the backup in --folder from which it was restored last")
    swap.add_argument("--folder", type=_path, default=Path())
    swap.add_argument("--reader", default="", help="the reader role, whose sessions may be terminated")
    swap.add_argument("--maintenance", default="postgres", help="the database to connect to for the rename")
    commands["restore"].add_argument("--into", required=True, help="the new database")
    commands["restore"].add_argument("--from-server", default="", help="the server of the backup, if it is another one")
    commands["prune"].add_argument("--server", required=True, help="the server that the backups are of")
    commands["dump"].add_argument("--format", choices=("custom", "directory"), default="custom")
    commands["dump"].add_argument("--compress", type=int, default=6)
    commands["prune"].add_argument("backups", nargs="+", metavar="NAME=SHA256")
    commands["remove"].add_argument("databases", nargs="*", metavar="OID=NAME")
    commands["recover"].add_argument("--base", required=True, help="the base backup to start from")
    target = commands["recover"].add_mutually_exclusive_group(required=True)
    target.add_argument("--time", help="a timestamp with its zone")
    target.add_argument("--lsn")
    commands["recover"].add_argument("--expect", nargs="*", default=[], metavar="DATABASE.SCHEMA.TABLE=ROWS")
    commands["recover"].add_argument("--keep", action="store_true", help="keep the recovered cluster, shut down")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()  # child programs have another working directory


def _say_result(line: str) -> None:
    """Print the result. A signal at this moment is ignored: the work is done."""
    with suppress(Terminated):
        _say(line)


def _say(line: str) -> None:
    with suppress(OSError):  # the reader has closed the pipe
        print(inert(line), flush=True)


if __name__ == "__main__":
    os.umask(0o077)  # backups contain data: only their owner may read them
    end_on_signals()
    die_with_parent()
    sys.exit(main())
