"""Credentials for a program: the roles of the settings that its step names, for as long as it runs."""

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
    """Yield libpq's environment variables for these roles: address, user and the file with their passwords.

    The file is in memory only, without a name and with mode 0600, and disappears with this process: a password is
    never written to a disk (P21). A tunnel through a bastion, if the settings have one, is open as long.
    Errors: NotConfigured, InputError, Refused without write access, SettingsError if a password cannot be read,
    Unreachable and AccessDenied by the bastion.
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
    # the user's own file still serves connections for which the settings have no password
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
    """Return variables and password lines of `database.operator`; a tunnel that it needs is closed with `tunnels`."""
    database = settings.database
    if database is None or database.operator is None:
        raise NotConfigured(
            "database.operator is not configured, but the step needs it",
            on="database.operator",
            hint="add a table [database.operator] with user and password",
        )
    port = str(database.port)
    variables = {"PGDATABASE": database.dbname, "PGUSER": database.operator.user, "PGSSLMODE": database.sslmode}
    if database.service:
        variables["PGSERVICE"] = database.service
        variables |= {name: os.environ[name] for name in ("PGSERVICEFILE", "PGSYSCONFDIR") if name in os.environ}
    elif (tunnel := tunnel_of(database)) is not None:
        tunnels.callback(tunnel.close)
        port = str(tunnel.port())  # the host name stays: the server's certificate is for that host
        variables |= {"PGHOST": database.host, "PGHOSTADDR": "127.0.0.1", "PGPORT": port}
    else:
        variables |= {"PGHOST": database.host, "PGPORT": port}
    if database.sslrootcert:
        variables["PGSSLROOTCERT"] = database.sslrootcert
    host, port = ("*", "*") if database.service else (database.host, port)
    return variables, _password_line(host, port, database.operator.user, database.operator.password)


def _scratch_environment(settings: Settings) -> tuple[dict[str, str], list[str]]:
    """Return variables and password lines of `backups.scratch`; the variables' names begin with SCRATCH_."""
    scratch = settings.backups.scratch if settings.backups else "local"
    if isinstance(scratch, str):
        return {}, []  # a private cluster asks for no password
    variables = {
        "PGHOST": scratch.host,
        "PGPORT": str(scratch.port),
        "PGUSER": scratch.user,
        "PGSSLMODE": scratch.sslmode,
    }
    if scratch.sslrootcert:
        variables["PGSSLROOTCERT"] = scratch.sslrootcert
    lines = _password_line(scratch.host, str(scratch.port), scratch.user, scratch.password)
    return {f"SCRATCH_{name}": value for name, value in variables.items()}, lines


def _password_line(host: str, port: str, user: str, password: Secret | None) -> list[str]:
    """Return the password file's line for all databases of the server; none if libpq's own files have the password."""
    if password is None:
        return []
    fields = [host, port, "*", user, password.reveal()]
    if any("\n" in field or "\r" in field for field in fields):
        raise InputError("a password file cannot hold a line break", on=f"{user}@{host}")
    escaped = [field if field == "*" else field.replace("\\", "\\\\").replace(":", "\\:") for field in fields]
    return [":".join(escaped) + "\n"]
