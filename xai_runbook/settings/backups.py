"""What an environment says of its backups: the table [backups]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xai_runbook.model.secret import Secret
from xai_runbook.model.window import duration_seconds
from xai_runbook.settings.types import Duration, Folder, MisplacedKey, Model, WriteCredential


class ScratchServer(WriteCredential):
    """A server of its own on which backups are restored to be verified; never the one that they are of.

    A write credential: its role creates databases there and drops them.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    user: str
    """A role that may create databases there; one that is no superuser there cannot restore every extension."""
    password: Secret | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "verify-full"
    sslrootcert: str | None = None


class BackupSettings(Model):
    """Where backups lie, how they are made, for how long they are kept, and where they are tried."""

    folder: Folder
    archive: Folder | None = None
    """The folder that archive_command fills. Without it nobody expects WAL to be archived."""
    programs: Folder | None = None
    """The folder of pg_dump and the others, of the server's major version; without it, that version's own or PATH."""
    format: Literal["custom", "directory"] = "custom"
    jobs: Annotated[int, Field(ge=1, le=64)] = 1
    """Tables at once: for dumps only in the directory format, for restores always."""
    compress: Annotated[int, Field(ge=0, le=9)] = 6
    keep_count: Annotated[int, Field(ge=1)] = 7
    """So many of the newest verified backups of each kind are kept, however old."""
    keep_age: Duration = "14d"
    """And whatever is younger than this."""
    timeout: Duration = "4h"
    """For making, verifying or restoring one backup."""
    scratch: Literal["local"] | ScratchServer = "local"
    """"local": a private cluster in the backups' folder for as long as the check lasts."""

    @model_validator(mode="after")
    def _some_time(self) -> BackupSettings:
        if not duration_seconds(self.timeout):
            raise MisplacedKey("no backup is made in no time", "timeout")
        return self
