"""What we were told about the database, and about what stands before it: tables of the settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from xai_runbook.model.secret import Secret
from xai_runbook.settings.types import MisplacedKey, Model, Timeout, WriteCredential

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class OperatorSettings(WriteCredential):
    """The role that changes are made with: it may end sessions, and alter what its rights allow."""

    user: str
    password: Secret | None = None


class Proxy(Model):
    """A proxy or pooler before the database. Questions may go through it; changes never do."""

    host: str = "xai-db-proxy.internal"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    sslmode: SslMode = "verify-full"


class Bastion(Model):
    """The host that the database is reached by, as ssh knows it: `~/.ssh/config` holds, and nobody is asked.

    The local end of the way has another port each time: a line of ~/.pgpass for it has * in the port's place.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: str | None = None
    identity_file: str | None = None
    known_hosts_file: str | None = None

    @field_validator("host", "user")
    @classmethod
    def _no_option(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.startswith("-") or not value.isprintable()):
            raise ValueError("must be a plain name, not an option of ssh")
        return value


class Pool(Model):
    """Where the application's connection pool is configured: one whole number in one file."""

    file: str
    key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = "pool_size"
    processes: Annotated[int, Field(ge=1, le=100_000)] = 1
    """How many processes have a pool of that size, over all hosts."""


class PoolerSettings(Model):
    """PgBouncer's console, and a user that may only SHOW (its stats_users)."""

    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 6432
    dbname: str = "pgbouncer"
    user: str = "xai_monitor"
    password: Secret | None = None
    sslmode: SslMode = "verify-full"
    sslrootcert: str | None = None
    timeout: Timeout = "5s"


class DatabaseSettings(Model):
    """One PostgreSQL database, and the role that may only read."""

    host: str = "xai-db.internal"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    dbname: str = "xai_blockchain"
    user: str = "xai_monitor"
    password: Secret | None = None
    """Without it, libpq's own ~/.pgpass and service file are used."""
    service: str | None = None
    sslmode: SslMode = "verify-full"
    sslrootcert: str | None = None
    timeout: Timeout = "10s"
    proxy: Proxy | None = None
    bastion: Bastion | None = None
    pool: Pool | None = None
    system_identifier: str | None = None
    """`SELECT system_identifier FROM pg_control_system()`: another server behind the same name is refused."""
    standbys: list[str] = []
    """The application_name of each standby that must be connected to this server."""
    in_recovery: bool = False
    """True where this server itself is a standby, and is meant to be one."""
    examined_tables: list[str] = []
    """"schema.table" of the tables whose pages and indexes the health report looks through (amcheck); small ones."""
    operator: OperatorSettings | None = None

    @model_validator(mode="after")
    def _one_way(self) -> DatabaseSettings:
        if self.service is not None and self.bastion is not None:
            raise MisplacedKey("a service names its own host, which no bastion leads to; use host and port", "service")
        return self

    @field_validator("dbname", "user", "host", "service")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        # libpq reads such a database name as a whole connection string and goes to another server
        if value is not None and (not value or "=" in value or "://" in value or not value.isprintable()):
            raise ValueError("must be a plain name, not a connection string")
        return value
