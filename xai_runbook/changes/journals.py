"""The journal of an environment, checked against its last seen state.

A journal's folder may be on a share that is not mounted, be emptied, or be restored from an old copy. If a new journal
were created silently, stops, unknown outcomes and used plans would be forgotten. So a journal is created once, by
`init` (the sandbox creates its own), has an identity, and each user's state folder remembers that identity and the
number of records.
"""

from __future__ import annotations

from dataclasses import asdict
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
    """Return the environment's journal, after `require`. Errors: JournalError.

    The sandbox's journal is created at its first use.
    """
    journal = unchecked_journal(env)
    if env.name == DEFAULT and not journal.identity and journal_memory.recall(journal.folder) is None:
        journal.create()
    require(journal, env.name)
    return journal


def unchecked_journal(env: Environment) -> Journal:
    """Return the journal in the folder that the settings name, without any check.

    A relative path is relative to this user's state folder, not to the working directory: a stop or an unknown outcome
    must be seen by commands and notebooks in every folder.
    """
    return Journal(journal_memory.state_folder() / Path(env.settings.outputs.journal).expanduser())


def require(journal: Journal, name: str) -> None:
    """Raise JournalError unless the journal is the one seen before and complete; remember its present state."""
    known = journal_memory.recall(journal.folder)  # read before the journal, which only grows
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
    # only records that the head covers: a later one is removed again if its writer finds the disk full
    covered = journal.head().count
    journal.verify()
    hashes = journal.hashes()
    if known is not None and len(hashes) < known.count:
        raise JournalError(
            f"records are missing: the journal has {len(hashes)} and had {known.count}", on=on, hint=replace
        )
    if known is not None and known.count and hashes[known.count - 1] != known.hash:
        raise JournalError(f"record {known.count} is not the one that was seen before", on=on, hint=replace)
    now = journal_memory.LastSeen(identity, covered, hashes[covered - 1] if covered else "")
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
    """Create the journal of environment `name`, or `replace` the known one by the one in its folder; return a message.

    Records that exist are kept; a replacement is recorded with its reason.
    Errors: Refused, JournalError; InputError for a replacement without a reason.
    """
    known = journal_memory.recall(journal.folder)
    if replace:
        if not why.strip():
            raise InputError("replacing a journal needs a reason", hint="--why TEXT")
        if not interactive.is_interactive():
            raise Refused("replacing a journal needs a person", on="a script or a pipe", hint="run it in a terminal")
        journal.verify()
        journal.create()
        replaced = asdict(known) if known is not None else {}
        number = journal.append("replaced", why=inert(why), known=replaced)
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
