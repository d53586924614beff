"""The journal of an environment: the one that this user knows, complete, or an error.

A journal's folder may be on a share that is not mounted, be emptied, or be put back from an old copy. Made anew in
silence, it would forget stops, unknown outcomes and plans that were used. So a journal is made once, by `init` (the
sandbox makes its own), has an identity, and each user's state folder remembers that and how many records there were.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.changes import journal_memory
from xai_runbook.changes.journal import Journal
from xai_runbook.errors import InputError, JournalError, Refused, inert
from xai_runbook.settings.loading import DEFAULT
from xai_runbook.system import interactive

if TYPE_CHECKING:
    from xai_runbook.environment import Environment

_REPLACE = "mount its folder or restore a newer copy; if it is lost: {} --replace --why TEXT"


def journal_of(env: Environment) -> Journal:
    """The environment's journal, if it is the one that this user knows and complete. Errors: JournalError.

    The sandbox's is made here when it is first wanted.
    """
    journal = unchecked_journal(env)
    if env.name == DEFAULT and not journal.identity and journal_memory.recall(journal.folder) is None:
        journal.create()
    require(journal, env.name)
    return journal


def unchecked_journal(env: Environment) -> Journal:
    """Where the environment's journal is to be, whatever is there. A relative path is one place for this user,
    whichever folder a command or a notebook runs in: a stop, or an outcome that nobody knows, must be seen from all of
    them."""
    return Journal(journal_memory.state_folder() / Path(env.settings.outputs.journal).expanduser())


def require(journal: Journal, name: str) -> None:
    """Raise JournalError unless `journal` is the one that this user knows, complete; a first sight is remembered."""
    known = journal_memory.recall(journal.folder)  # before the journal, which only grows
    on = str(journal.folder)
    command = f"xai-runbook journal init --env {name}"
    replace = _REPLACE.format(command)
    identity = journal.identity
    if not identity:
        if known is not None:
            raise JournalError(f"the journal is missing; it had {known.count} records", on=on, hint=replace)
        what = "this journal has no identity yet" if journal.path.exists() else "there is no journal"
        raise JournalError(what, on=on, hint=f"if this is the right folder, create it once: {command}")
    if known is not None and identity != known.identity:
        raise JournalError(f"this is not the known journal of {known.count} records", on=on, hint=replace)
    # only what the head covers is remembered: a record after it is taken back where its writer finds the disk full
    covered = journal.head().count
    journal.verify()
    hashes = journal.hashes()
    if known is not None and len(hashes) < known.count:
        raise JournalError(
            f"records are missing: the journal has {len(hashes)} and had {known.count}", on=on, hint=replace
        )
    if known is not None and known.count and hashes[known.count - 1] != known.hash:
        raise JournalError(f"record {known.count} is not the one that was seen before", on=on, hint=replace)
    now = journal_memory.LastSeen(identity=identity, count=covered, hash=hashes[covered - 1] if covered else "")
    if now != known:
        try:
            journal_memory.remember(journal.folder, now)
        except OSError as error:
            raise JournalError(
                f"the last seen state of the journal cannot be saved: {error.strerror}",
                on=str(journal_memory.path_of(journal.folder)),
                hint="free disk space and check the permissions of that folder",
            ) from None


def init(journal: Journal, name: str, *, replace: bool = False, why: str = "") -> str:
    """Make the journal of environment `name`, or `replace` the known one by what is in the folder now; what was done.

    Records that are there are kept, and a replacement is recorded with its reason. Errors: Refused, JournalError;
    InputError for a replacement without a reason.
    """
    known = journal_memory.recall(journal.folder)
    if replace:
        if not why.strip():
            raise InputError("replacing a journal needs a reason", hint="--why TEXT")
        if not interactive.is_there():
            raise Refused("replacing a journal needs a person", on="a script or a pipe", hint="run it in a terminal")
        journal.verify()
        journal.create()
        before = known.model_dump() if known is not None else {}
        number = journal.append("replaced", why=inert(why), known=before)
        return f"{journal.folder} is now the journal; its record {number} holds the reason"
    if journal.identity:
        require(journal, name)
        return f"there is a journal already: {journal.folder}, {len(journal.hashes())} records"
    if known is not None:
        hint = _REPLACE.format(f"xai-runbook journal init --env {name}")
        raise Refused(f"a journal of {known.count} records was seen here before", on=str(journal.folder), hint=hint)
    journal.verify()
    journal.create()
    return f"created the journal {journal.folder}"
