"""The state of each journal that this user saw last, kept apart from the journals in the XDG state folder."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from xai_runbook.errors import JournalError
from xai_runbook.model.validation import validated
from xai_runbook.system.files import make_private_folder, write_atomically


@dataclass(frozen=True)
class LastSeen:
    """A journal as it was last seen: its identity, the number of its records, the hash of the last one."""

    identity: str
    count: int
    hash: str


def state_folder() -> Path:
    """Return this user's XDG state folder of xai-runbook."""
    folder = os.environ.get("XDG_STATE_HOME", "")
    # the XDG specification ignores relative paths
    return (Path(folder if os.path.isabs(folder) else "~/.local/state") / "xai-runbook").expanduser()


def recall(folder: Path) -> LastSeen | None:
    """Return the last seen state of the journal in `folder`; None if it was never seen. Errors: JournalError.

    The path is used as the settings have it, unresolved: a symbolic link's target may change, and the journal's
    identity is compared anyway.
    """
    path = path_of(folder)
    try:
        return validated(LastSeen, json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise JournalError(
            f"the last seen state of the journal {folder} cannot be read",
            on=str(path),
            hint="check the file; if it is damaged, make sure that the journal is complete, then remove the file",
        ) from None


def remember(folder: Path, known: LastSeen) -> None:
    """Save the seen state of the journal in `folder`. Errors: OSError."""
    path = path_of(folder)
    make_private_folder(path.parent)
    write_atomically(path, json.dumps(asdict(known) | {"folder": str(folder)}).encode())


def path_of(folder: Path) -> Path:
    """Return the file with the last seen state of the journal in `folder`."""
    name = hashlib.sha256(os.path.abspath(folder).encode()).hexdigest()[:32]
    return state_folder() / "journals" / f"{name}.json"
