"""The JSON files in a folder of backups, each validated in the same way where it is written and wherever it is read.

Import this module inside the functions that use it: pydantic is slow to import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from xai_runbook.errors import BadAnswer, inert
from xai_runbook.system.files import write_atomically

SCHEMA = 1
_REQUIRED = {
    "dump": ("encoding", "contents"),
    "cluster": ("superuser", "timeline", "start_lsn", "stop_lsn", "segment_bytes"),
}
"""The keys without which a backup of that kind cannot be restored, verified or recovered."""


def _aware(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time needs its zone")
    return text


def _relative(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name in ("", ".") or "\0" in name:
        raise ValueError("a file of a backup lies within its folder")
    return name


def _empty_for_null(value: object) -> object:
    return [] if value is None else value


_Time = Annotated[str, AfterValidator(_aware)]
"""ISO 8601 with a zone."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _File(_Part):
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: str


class _Table(_Part):
    rows: Annotated[str, Field(pattern=r"^\d+$")]
    checksum: str


_Position = Annotated[str, Field(pattern=r"^-?\d+( \(not called\))?$")]
"""The position of a sequence; the second of two is its position when the dump ended."""


class _Contents(_Part):
    model_config = ConfigDict(extra="allow", frozen=True)

    fingerprint: Literal[1, 2] = 1
    tables: dict[str, _Table]
    sequences: dict[str, Annotated[list[_Position], Field(min_length=1)]] = {}
    objects: dict[str, int]


class _Reached(_Part):
    lsn: str
    last_commit_at: _Time | None
    stopped: str


class _WalRange(_Part):
    timeline: Annotated[int, Field(alias="Timeline")]
    start_lsn: Annotated[str, Field(alias="Start-LSN")]
    end_lsn: Annotated[str, Field(alias="End-LSN")]


class _Record(BaseModel):
    """The content of one JSON file."""

    model_config = ConfigDict(frozen=True)
    noun: ClassVar[str]
    """What error messages call the file."""
    remedy: ClassVar[str]
    """The hint of error messages."""


class _OwnRecord(_Record):
    """A file that this package writes; undeclared keys are for people and are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]


class Manifest(_OwnRecord):
    """`manifest.json`: what a backup is of, and the size and sum of each of its files."""

    noun = "manifest"
    remedy = "make a new backup"

    kind: Literal["dump", "cluster"]
    database: str
    taken_at: _Time
    server_version: Annotated[str, Field(pattern=r"^\d+")]
    database_oid: str = ""
    system_identifier: str = ""
    server: str = ""
    """The address of a server, as the settings name it."""
    encoding: str = ""
    collation: str = ""
    ctype: str = ""
    locale_provider: Literal["", "c", "i", "b"] = ""
    locale: str = ""
    icu_rules: str = ""
    superuser: str = ""
    # SQL aggregates an empty set to NULL, which manifests of earlier versions hold
    extensions: Annotated[list[str], BeforeValidator(_empty_for_null)] = []
    extension_rights: dict[str, list[str]] = {}
    contents: _Contents | None = None
    timeline: int = 0
    start_lsn: str = ""
    stop_lsn: str = ""
    segment_bytes: int = 0
    size_bytes: Annotated[int, Field(ge=0)] = 0
    files: dict[Annotated[str, AfterValidator(_relative)], _File]

    @model_validator(mode="after")
    def _complete(self) -> Manifest:
        missing = [name for name in _REQUIRED[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"a {self.kind} needs {', '.join(missing)}")
        return self


class Verification(_OwnRecord):
    """`verification.json`: the result of the last test restore, and the state of the files it was made with."""

    noun = "verification"
    remedy = "xai-runbook plan backups.verify"

    manifest_sha256: str
    ok: StrictBool
    at: _Time
    why: str = ""
    stamps: dict[str, int] = {}
    """When each file was last written (Unix time in nanoseconds)."""
    restore_seconds: float | None = None
    rows: int | None = None
    tables: int | None = None
    where: str = ""


class Recovery(_OwnRecord):
    """`recovery.json`: the result of a rehearsed recovery to a point in time."""

    noun = "recovery record"
    remedy = "remove its folder, and rehearse the recovery again"

    base: str
    target: dict[str, str]
    """recovery_target settings of PostgreSQL."""
    at: _Time
    reached: _Reached
    seconds: float
    tables: dict[str, _Table]
    expected: dict[str, str]
    differences: list[str]


class LastRestore(_OwnRecord):
    """`.restored.json`: the database that was restored last, for the swap that follows."""

    noun = "record of the last restore"
    remedy = "swap the databases by hand"

    backup: str
    database: str
    oid: Annotated[str, Field(pattern=r"^\d+$")]


class ServerManifest(_Record):
    """`backup_manifest`, which pg_basebackup writes: the WAL that a base backup needs, the last range last.

    Source: PostgreSQL docs, Backup Manifest Format.
    """

    noun = "backup_manifest"
    remedy = "make a new backup"

    wal_ranges: Annotated[list[_WalRange], Field(alias="WAL-Ranges", min_length=1)]


def read(path: Path, kind: type[_Record]) -> dict[str, Any]:
    """Return the content of the file with every key of its kind. Errors: BadAnswer, which names the wrong key."""
    try:
        return kind.model_validate_json(path.read_bytes()).model_dump(by_alias=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadAnswer(f"its {kind.noun} cannot be read: {reason}", on=str(path), hint=kind.remedy) from None
    except ValidationError as error:
        raise _invalid(kind, error, path) from None


def write(path: Path, kind: type[_OwnRecord], content: Mapping[str, Any]) -> None:
    """Validate the content and write it as JSON. Errors: BadAnswer, which names the wrong key; OSError."""
    try:
        valid = kind.model_validate({**content, "schema": SCHEMA}).model_dump(by_alias=True)
    except ValidationError as error:
        raise _invalid(kind, error, path) from None
    write_atomically(path, json.dumps(valid, indent=1, ensure_ascii=False).encode() + b"\n")


def _invalid(kind: type[_Record], error: ValidationError, path: Path) -> BadAnswer:
    first = error.errors(include_url=False, include_input=False)[0]
    key, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    reason = "it is not JSON" if first["type"] == "json_invalid" else ": ".join(filter(None, (key, message)))
    return BadAnswer(f"its {kind.noun} is not valid: {inert(reason, 200)}", on=str(path), hint=kind.remedy)
