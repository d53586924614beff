"""Lends a program the roles of the settings that its step names, for as long as it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xai_runbook.clients.postgres.tunnel import tunnel_of
from xai_runbook.errors import InputError, NotConfigured
from xai_runbook.model.secret import require_write_access
from xai_runbook.model.steps import Role

if TYPE_CHECKING:
    from xai_runbook.model.secret import Secret
    from xai_runbook.settings.models import Settings


@contextmanager
def role_environment(roles: Sequence[Role], settings: Settings) -> Iterator[dict[str, str]]:
    """libpq's variables of these roles: where, as whom, and in which file the passwords are.

    The file is memory that has no name, mode 0600, and the kernel takes it back when we end, however that is: no disk
    ever holds a password (P21). Where the settings lead by a bastion, the way through it is open as long.
    Errors: NotConfigured, Refused without write access, SettingsError (a password that cannot be read), InputError,
    Unreachable and AccessDenied (the bastion).
    """
    if not roles:
        yield {}
        return
    require_write_access(", ".join(roles))
    variables: dict[str, str] = {}
    lines: list[str] = []
    with ExitStack() as tunnels:
        for role in roles:
            if role == "database.operator":
                address, line = _operator_environment(settings, tunnels)
            else:
                address, line = _scratch_environment(settings)
            variables |= address
            lines += line
        with _password_file(lines) as path:
            yield variables | path


@contextmanager
def _password_file(lines: list[str]) -> Iterator[dict[str, str]]:
    # a person's own file still counts, for what the settings leave to libpq
    own = Path(os.environ.get("PGPASSFILE") or "~/.pgpass").expanduser()
    text = "".join(lines).encode()
    if lines and own.is_file():
        text += own.read_bytes()
    descriptor = os.memfd_create("passwords", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text)
        if lines:
            yield {"PGPASSFILE": f"/proc/{os.getpid()}/fd/{descriptor}"}
        else:
            yield {name: os.environ[name] for name in ("PGPASSFILE",) if name in os.environ}
    finally:
        os.close(descriptor)


def _operator_environment(settings: Settings, tunnels: ExitStack) -> tuple[dict[str, str], list[str]]:
    where = settings.database
    if where is None or where.operator is None:
        raise NotConfigured(
            "database.operator is not configured, but the step needs it",
            on="database.operator",
            hint="add a table [database.operator] with user and password",
        )
    port = str(where.port)
    told = {"PGDATABASE": where.dbname, "PGUSER": where.operator.user, "PGSSLMODE": where.sslmode}
    if where.service:
        told["PGSERVICE"] = where.service
        told |= {name: os.environ[name] for name in ("PGSERVICEFILE", "PGSYSCONFDIR") if name in os.environ}
    elif (tunnel := tunnel_of(where)) is not None:
        tunnels.callback(tunnel.close)
        port = str(tunnel.port())  # the host's name stays: its certificate must be that host's
        told |= {"PGHOST": where.host, "PGHOSTADDR": "127.0.0.1", "PGPORT": port}
    else:
        told |= {"PGHOST": where.host, "PGPORT": port}
    if where.sslrootcert:
        told["PGSSLROOTCERT"] = where.sslrootcert
    host, port = ("*", "*") if where.service else (where.host, port)
    return told, _password_line(host, port, where.operator.user, where.operator.password)


def _scratch_environment(settings: Settings) -> tuple[dict[str, str], list[str]]:
    where = settings.backups.scratch if settings.backups else "local"
    if isinstance(where, str):
        return {}, []  # a private cluster asks for no password
    told = {"PGHOST": where.host, "PGPORT": str(where.port), "PGUSER": where.user, "PGSSLMODE": where.sslmode}
    if where.sslrootcert:
        told["PGSSLROOTCERT"] = where.sslrootcert
    lines = _password_line(where.host, str(where.port), where.user, where.password)
    return {f"SCRATCH_{name}": text for name, text in told.items()}, lines


def _password_line(host: str, port: str, user: str, password: Secret | None) -> list[str]:
    """A line of a password file for every database of that server, or none where libpq's own files are used."""
    if password is None:
        return []
    fields = [host, port, "*", user, password.reveal()]
    if any("\n" in field or "\r" in field for field in fields):
        raise InputError("a password file cannot hold a line break", on=f"{user}@{host}")
    escaped = [field if field == "*" else field.replace("\\", "\\\\").replace(":", "\\:") for field in fields]
    return [":".join(escaped) + "\n"]
