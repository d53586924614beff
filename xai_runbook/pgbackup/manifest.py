"""The manifest of a backup: validated in one way where it is written and wherever it is read."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from xai_runbook.errors import BadAnswer, inert

SCHEMA = 1
_NEEDED = {
    "dump": ("encoding", "contents"),
    "cluster": ("superuser", "timeline", "start_lsn", "stop_lsn", "segment_bytes"),
}
"""What restoring, verifying or recovering a backup of that kind reads."""


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


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class _File(_Model):
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: str


class _Table(_Model):
    rows: Annotated[str, Field(pattern=r"^\d+$")]
    checksum: str


_Position = Annotated[str, Field(pattern=r"^-?\d+( \(not called\))?$")]
"""Where a sequence was; the second of two is where it was when the dump ended."""


class _Contents(_Model):
    model_config = ConfigDict(extra="allow", frozen=True)

    fingerprint: Literal[1, 2] = 1
    tables: dict[str, _Table]
    sequences: dict[str, Annotated[list[_Position], Field(min_length=1)]] = {}
    objects: dict[str, int]


class _Manifest(_Model):
    """What every manifest holds; further keys (how, seconds, program) are for people and stay as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    kind: Literal["dump", "cluster"]
    database: str
    taken_at: Annotated[str, AfterValidator(_aware)]
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
    files: dict[Annotated[str, AfterValidator(_relative)], _File]

    @model_validator(mode="after")
    def _complete(self) -> _Manifest:
        missing = [name for name in _NEEDED[self.kind] if not getattr(self, name)]
        if missing:
            raise ValueError(f"a {self.kind} needs {', '.join(missing)}")
        return self


def validated(manifest: object) -> dict[str, Any]:
    """Return the manifest with every key that restoring reads. Errors: BadAnswer, which names the wrong key."""
    try:
        return _Manifest.model_validate(manifest).model_dump(by_alias=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        what = f"{place}: {first['msg']}" if place else str(first["msg"])
        raise BadAnswer(f"its manifest cannot be read: {inert(what, 200)}", hint="make a new backup") from None
