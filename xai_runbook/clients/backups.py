"""The read-only handle of the folder of backups, the WAL archive and PostgreSQL's programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from xai_runbook.errors import AccessDenied, NoData, NotConfigured, Unreachable, XaiRunbookError
from xai_runbook.model.parts import machine
from xai_runbook.model.window import duration_seconds
from xai_runbook.pgbackup import catalog, pg_tools
from xai_runbook.pgbackup.origin import UNKNOWN, origin

if TYPE_CHECKING:
    from xai_runbook.settings.backups import BackupSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The database whose backups are in the folder, as the settings name it."""

    database: str
    system_identifier: str | None
    server_address: str
    """In the form of `named_address`."""
    identity: Callable[[], dict[str, str]]
    """Reads the identity of the server."""


@dataclass(frozen=True)
class OriginMismatch:
    """Why a backup is not used as a backup of our server and database."""

    reason: str
    certain: bool
    """Whether it is known to be of another one; otherwise it may be ours."""

    def __str__(self) -> str:
        return self.reason


class Backups:
    """A read-only handle of one folder of backups. Only steps of plans write there."""

    def __init__(
        self,
        settings: BackupSettings,
        source: Source | None,
        *,
        environment: str,
        production: bool,
    ) -> None:
        self.environment, self.production = environment, production
        self.settings = settings
        self.folder = Path(settings.folder).expanduser()
        self.archive_folder = Path(settings.archive).expanduser() if settings.archive else None
        self._source = source

    @property
    def database(self) -> str:
        """Return the database that the backups should be of. Errors: NotConfigured."""
        if self._source is None:
            raise NotConfigured("database is not configured", on="database", hint="add a table [database] to its file")
        return self._source.database

    @property
    def step_environment(self) -> dict[str, str]:
        """Return the environment variable that sets the timeout of programs in a plan's step."""
        return {"XAI_RUNBOOK_BACKUP_SECONDS": f"{duration_seconds(self.settings.timeout):g}"}

    def identity(self) -> dict[str, str]:
        """Return the folder and the machine that it is on."""
        return {"folder": str(self.folder.resolve()), "machine": machine()}

    def stored(self) -> list[catalog.Backup]:
        """Return every backup in the folder, oldest first; none if the folder does not exist. Errors: CannotAsk."""
        return self._read(catalog.read)

    def named(self, name: str) -> catalog.Backup:
        """Return the backup of that name. Errors: BadAnswer."""
        return catalog.named(self.folder, name)

    def newest(self, kind: catalog.Kind | None = None) -> str:
        """Return the name of the newest own backup; with a kind, of the newest verified one. Errors: NoData."""
        reasons = []
        for backup, mismatch in reversed(self.stored_with_mismatch()):
            usable = backup.state == "verified" and backup.manifest["kind"] == kind
            if backup.manifest and mismatch is None and (kind is None or usable):
                return backup.name
            reasons += [f"{backup.name}: {mismatch}"] if mismatch else []
        note = f" ({'; '.join(reasons[:3])})" if reasons else ""
        raise NoData(f"there is no usable backup{note}", on=str(self.folder), hint="xai-runbook plan backups.dump")

    def next_name(self, kind: Literal["dump", "cluster", "recovery"]) -> str:
        """Return the name of the next backup or recovery: the same for an unchanged folder. Errors: CannotAsk."""
        prefix = catalog.slug(self.database) if kind == "dump" else kind
        return self._read(lambda folder: catalog.next_name(folder, prefix))

    def leftovers(self) -> dict[str, int]:
        """Return name and size in bytes of what killed runs left in the folder. Errors: CannotAsk."""
        return self._read(catalog.leftovers)

    def server(self) -> str:
        """Return the server that the backups should be of, in the form of `origin`.

        Without an identifier in the settings the server is asked. Errors: CannotAsk if it does not answer.
        """
        source = self._source
        if source is None:
            return UNKNOWN
        if source.system_identifier is not None:
            return source.system_identifier
        return origin(source.identity() | {"server": source.server_address})

    def stored_with_mismatch(self) -> list[tuple[catalog.Backup, OriginMismatch | None]]:
        """Return every backup, oldest first, with its mismatch (None: it is of our server). Errors: CannotAsk."""
        found = self.stored()
        return list(zip(found, self._mismatches([backup.manifest for backup in found]), strict=True))

    def origin_mismatch(self, manifest: dict[str, Any]) -> OriginMismatch | None:
        """Return why a backup with that manifest is not of our server and database; None if it is."""
        return self._mismatches([manifest])[0]

    def _mismatches(self, manifests: list[dict[str, Any]]) -> list[OriginMismatch | None]:
        server, unanswered = UNKNOWN, ""
        if manifests:
            try:
                server = self.server()
            except XaiRunbookError as error:
                unanswered = error.what
        return [self._mismatch(manifest, server, unanswered) for manifest in manifests]

    def _mismatch(self, manifest: dict[str, Any], server: str, unanswered: str) -> OriginMismatch | None:
        backed_up = origin(manifest)
        if manifest.get("kind") == "dump" and manifest["database"] != self.database:
            return OriginMismatch(f"it is of database {manifest['database']}", certain=True)
        if backed_up == UNKNOWN:
            return OriginMismatch("its server is not known: the manifest names none", certain=False)
        if unanswered:
            return OriginMismatch(
                f"it is of server {backed_up}, and our server did not answer: {unanswered}", certain=False
            )
        if server != backed_up:
            comparable = server != UNKNOWN and server.isdigit() == backed_up.isdigit()
            return OriginMismatch(f"it is of server {backed_up}, not of {server}", certain=comparable)
        return None

    def recoveries(self) -> list[tuple[str, dict[str, Any], bool]]:
        """Return each rehearsed recovery, oldest first: name, record, whether its cluster exists. Errors: CannotAsk."""
        return self._read(catalog.recoveries)

    def can_read_data_directory(self, data_directory: str) -> bool:
        """Return whether a server's data directory is on this machine and readable."""
        return os.access(Path(data_directory) / "PG_VERSION", os.R_OK)

    def available_bytes(self) -> int:
        """Return the free bytes of the file system of the folder, or of the parent in which it will be created."""
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        status = os.statvfs(existing)
        return status.f_bavail * status.f_frsize

    def programs(self, major: int) -> Path:
        """Return the folder of programs for that major version. Errors: NoData, BadAnswer (older), Refused."""
        return pg_tools.find_programs(self.settings.programs, major)

    def archived_files(self) -> list[tuple[str, int, float]]:
        """Return name, size and mtime (Unix) of every file in the WAL archive, sorted by name. Errors: CannotAsk."""
        if self.archive_folder is None:
            raise NotConfigured("no WAL archive is configured", on="backups.archive", hint="set archive in [backups]")
        try:
            with os.scandir(self.archive_folder) as entries:
                return sorted((e.name, e.stat().st_size, e.stat().st_mtime) for e in entries if e.is_file())
        except OSError as error:
            raise Unreachable(
                f"the WAL archive cannot be read: {error.strerror}", on=str(self.archive_folder),
                hint="check that it is mounted, and backups.archive in the settings",
            ) from None  # fmt: skip

    def _read(self, read: Callable[[Path], T]) -> T:
        try:
            return read(self.folder)
        except PermissionError:
            raise AccessDenied("no permission to read the folder of backups", on=str(self.folder)) from None
        except OSError as error:
            raise Unreachable(
                f"the folder of backups cannot be read: {error.strerror}", on=str(self.folder),
                hint="check that it is mounted, and backups.folder in the settings",
            ) from None  # fmt: skip
