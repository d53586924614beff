"""How an edit acts: the file must be unchanged since the plan was made, and is replaced atomically."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from xai_runbook.changes.steps.result import OutcomeUnknown, StepResult
from xai_runbook.errors import InputError
from xai_runbook.model.steps import Edit
from xai_runbook.system.config_line import ConfigLine
from xai_runbook.system.files import write_atomically


def run_edit(step: Edit) -> StepResult:
    """Edit the file and return the result. Errors: OutcomeUnknown."""
    path = Path(os.path.realpath(step.path))  # a symbolic link stays one
    try:
        content, status = path.read_bytes(), path.stat()
    except OSError as error:
        return StepResult(False, f"{step.path} cannot be read: {error.strerror}")
    if hashlib.sha256(content).hexdigest() != step.sha256:
        return StepResult(False, f"{step.path} has changed since the plan was made, and was not edited")
    try:
        line = ConfigLine.find(content.decode(), step.key)
    except (InputError, UnicodeDecodeError) as error:
        return StepResult(False, str(error))
    if line.value != step.before:
        return StepResult(False, f"{step.key} has changed since the plan was made")
    try:
        write_atomically(path, line.replaced(step.after).encode(), like=status)
    except OSError as error:
        message = f"{step.path} could not be written: {error.strerror}"
        if path.read_bytes() == content:
            return StepResult(False, message)
        raise OutcomeUnknown(message, on=step.path) from None
    return StepResult(True, "done")
