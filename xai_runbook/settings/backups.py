"""Settings of backups: the table [backups]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xai_runbook.model.secret import Secret
from xai_runbook.model.window import duration_seconds
from xai_runbook.settings.types import Duration, Folder, InvalidKey, Model, WriteCredential


class ScratchSettings(WriteCredential):
    """A separate server on which backups are restored to verify them; never the server that was backed up.

    A write credential, because its role creates and drops databases there.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    user: str
    """A role with CREATEDB on that server; without SUPERUSER it cannot restore every extension."""
    password: Secret | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "verify-full"
    sslrootcert: str | None = None


class BackupSettings(Model):
    """Where backups are stored, how they are made, how long they are kept, and where they are verified."""

    folder: Folder
    archive: Folder | None = None
    """The folder that archive_command fills. Without it, WAL archiving is not checked."""
    programs: Folder | None = None
    """The folder of pg_dump and the like. Default: the folder of the server's major version, else PATH."""
    format: Literal["custom", "directory"] = "custom"
    jobs: Annotated[int, Field(ge=1, le=64)] = 1
    """Parallel jobs; a dump uses them only in the directory format, a restore always."""
    compress: Annotated[int, Field(ge=0, le=9)] = 6
    keep_count: Annotated[int, Field(ge=1)] = 7
    """This many of the newest verified backups of each kind are kept, whatever their age."""
    keep_age: Duration = "14d"
    """Backups younger than this are kept too."""
    timeout: Duration = "4h"
    """Deadline for making, verifying or restoring one backup."""
    scratch: Literal["local"] | ScratchSettings = "local"
    """"local": a private cluster in the backups' folder, which exists only during the verification."""

    @model_validator(mode="after")
    def _timeout_is_positive(self) -> BackupSettings:
        if not duration_seconds(self.timeout):
            raise InvalidKey("must be greater than 0s", "timeout")
        return self
