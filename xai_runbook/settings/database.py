"""Settings of the database, of its proxy, bastion and pooler."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from xai_runbook.model.secret import Secret
from xai_runbook.settings.types import InvalidKey, Model, Timeout, WriteCredential

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class OperatorSettings(WriteCredential):
    """The role that applies changes: it may end sessions and alter what its privileges allow."""

    user: str
    password: Secret | None = None


class ProxySettings(Model):
    """A proxy or pooler in front of the database. Queries may go through it; changes never do."""

    host: str = "xai-db-proxy.internal"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    sslmode: SslMode = "verify-full"


class BastionSettings(Model):
    """The ssh host through which the database is reached. `~/.ssh/config` applies; ssh never prompts.

    The local port of the tunnel changes each time, so a line of ~/.pgpass for it needs * as the port.
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
            raise ValueError("must be a plain name, not an ssh option")
        return value


class PoolSettings(Model):
    """Where the size of the application's connection pool is configured: one integer in one file."""

    file: str
    key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = "pool_size"
    processes: Annotated[int, Field(ge=1, le=100_000)] = 1
    """How many processes have a pool of that size, on all hosts together."""


class PoolerSettings(Model):
    """PgBouncer's admin console, and a user of its stats_users, who may only SHOW."""

    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 6432
    dbname: str = "pgbouncer"
    user: str = "xai_monitor"
    password: Secret | None = None
    sslmode: SslMode = "verify-full"
    sslrootcert: str | None = None
    timeout: Timeout = "5s"


class DatabaseSettings(Model):
    """One PostgreSQL database, and its read-only role."""

    host: str = "xai-db.internal"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    dbname: str = "xai_blockchain"
    user: str = "xai_monitor"
    password: Secret | None = None
    """Default: libpq's ~/.pgpass and service file."""
    service: str | None = None
    sslmode: SslMode = "verify-full"
    sslrootcert: str | None = None
    timeout: Timeout = "10s"
    proxy: ProxySettings | None = None
    bastion: BastionSettings | None = None
    pool: PoolSettings | None = None
    system_identifier: str | None = None
    """`SELECT system_identifier FROM pg_control_system()`; a server with another identifier is refused."""
    standbys: list[str] = []
    """The application_name of each standby that must be connected to this server."""
    in_recovery: bool = False
    """True if this server is meant to be a standby."""
    examined_tables: list[str] = []
    """"schema.table" of the (small) tables whose pages and indexes the health report checks with amcheck."""
    operator: OperatorSettings | None = None

    @model_validator(mode="after")
    def _service_without_bastion(self) -> DatabaseSettings:
        if self.service is not None and self.bastion is not None:
            raise InvalidKey("a service cannot be combined with a bastion; use host and port", "service")
        return self

    @field_validator("dbname", "user", "host", "service")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        # libpq takes a database name with "=" or "://" for a connection string and connects to another server
        if value is not None and (not value or "=" in value or "://" in value or not value.isprintable()):
            raise ValueError("must be a plain name, not a connection string")
        return value
