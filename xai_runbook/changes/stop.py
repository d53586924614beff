"""The emergency brake: a stop file that every apply checks before each step, and who set and removed it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from xai_runbook.changes.journals import journal_of
from xai_runbook.errors import JournalError, Refused, inert
from xai_runbook.system import interactive
from xai_runbook.system.files import write_atomically

if TYPE_CHECKING:
    from xai_runbook.environment import Environment


def stop(env: Environment, why: str) -> str:
    """Stop all changes of this environment; return why the journal has no entry of it, or nothing.

    It needs no person: a script may pull the brake too. Errors: JournalError if the journal is not the known one, as
    the stop file would then be where nobody looks, or if the stop file cannot be written.
    """
    journal = journal_of(env)
    try:
        write_atomically(journal.stop_file, f"{inert(why)}\n".encode())
    except OSError as error:
        raise JournalError(
            f"the stop file cannot be written: {error.strerror}", on=str(journal.stop_file),
            hint="create it by hand, on the machine that has the journal",
        ) from None  # fmt: skip
    try:
        journal.append("stopped", why=inert(why))
    except JournalError as error:
        return str(error)
    return ""


def resume(env: Environment, why: str = "") -> bool:
    """Allow changes again; return whether they were stopped. Errors: Refused without a person; JournalError."""
    journal = journal_of(env)
    if not interactive.is_interactive():
        raise Refused("allowing changes again needs a person", on="a script or a pipe", hint="run it in a terminal")
    if journal.stop_reason() is None:
        return False
    journal.append("resumed", why=inert(why))
    with suppress(FileNotFoundError):
        journal.stop_file.unlink()
    return True
