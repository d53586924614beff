"""How an edit acts: the file must still be what was seen, and becomes the new one in one step."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from xai_runbook.changes.steps.result import Ambiguous, Done
from xai_runbook.errors import InputError
from xai_runbook.model.steps import Edit
from xai_runbook.system.config_line import Keyed
from xai_runbook.system.files import write_whole


def edited(step: Edit) -> Done:
    """What the edit came to. Errors: Ambiguous."""
    path = Path(os.path.realpath(step.path))  # a link stays one
    try:
        content, rights = path.read_bytes(), path.stat()
    except OSError as error:
        return Done(False, f"{step.path} cannot be read: {error.strerror}")
    if hashlib.sha256(content).hexdigest() != step.sha256:
        return Done(False, f"{step.path} has changed since it was seen, and was left alone")
    try:
        found = Keyed.find(content.decode(), step.key)
    except (InputError, UnicodeDecodeError) as error:
        return Done(False, str(error))
    if found.value != step.before:
        return Done(False, f"{step.key} is not what was seen")
    try:
        write_whole(path, found.replaced(step.after).encode(), like=rights)
    except OSError as error:
        words = f"{step.path} could not be written: {error.strerror}"
        if path.read_bytes() == content:
            return Done(False, words)
        raise Ambiguous(words, on=step.path) from None
    return Done(True, "done")
