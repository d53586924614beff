"""How an edit acts: the file must still be what was seen, and becomes the new one in one step."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from xai_runbook.changes.steps.result import OutcomeUnknown, StepResult
from xai_runbook.errors import InputError
from xai_runbook.model.steps import Edit
from xai_runbook.system.config_line import ConfigLine
from xai_runbook.system.files import write_whole


def run_edit(step: Edit) -> StepResult:
    """What the edit came to. Errors: OutcomeUnknown."""
    path = Path(os.path.realpath(step.path))  # a link stays one
    try:
        content, rights = path.read_bytes(), path.stat()
    except OSError as error:
        return StepResult(False, f"{step.path} cannot be read: {error.strerror}")
    if hashlib.sha256(content).hexdigest() != step.sha256:
        return StepResult(False, f"{step.path} has changed since the plan was made, and was not edited")
    try:
        found = ConfigLine.find(content.decode(), step.key)
    except (InputError, UnicodeDecodeError) as error:
        return StepResult(False, str(error))
    if found.value != step.before:
        return StepResult(False, f"{step.key} has changed since the plan was made")
    try:
        write_whole(path, found.replaced(step.after).encode(), like=rights)
    except OSError as error:
        words = f"{step.path} could not be written: {error.strerror}"
        if path.read_bytes() == content:
            return StepResult(False, words)
        raise OutcomeUnknown(words, on=step.path) from None
    return StepResult(True, "done")
