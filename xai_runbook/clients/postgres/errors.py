"""Translation of errors of psycopg and libpq, whose own texts can contain connection strings and passwords."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors

from xai_runbook.errors import (
    AccessDenied,
    BadAnswer,
    Damaged,
    TimedOut,
    Unreachable,
    WrongServer,
    XaiRunbookError,
    inert,
)


def translated(error: psycopg.Error, address: str) -> XaiRunbookError:
    """Return our error for one of psycopg; it quotes the server's message, and never libpq's."""
    sqlstate = error.sqlstate
    if sqlstate is None:
        kind, what, hint = _connection_error(re.sub(r"'[^']*'|\"[^\"]*\"", "", str(error)).lower())  # without names
        return kind(what, on=address, hint=hint)
    message = inert(error.diag.message_primary or "", 300)
    if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
        return Damaged(
            f"stored data is damaged: {message}", on=address, hint="see 03_database, Are tables and indexes intact?"
        )
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return TimedOut(f"the server gave up: {message}", on=address, hint="is it overloaded, or a table locked?")
    if isinstance(
        error, errors.InsufficientPrivilege | errors.InvalidPassword | errors.InvalidAuthorizationSpecification
    ):
        return AccessDenied(f"the server refused: {message}", on=address, hint="GRANT pg_monitor to the role")
    if isinstance(error, errors.TooManyConnections | errors.CannotConnectNow | errors.AdminShutdown):
        return Unreachable(
            f"the server accepts no connections: {message}", on=address, hint="is it starting, stopping or full?"
        )
    if sqlstate.startswith("08"):  # the class of a pooler's errors about its servers
        return Unreachable(
            f"the pooler refused the connection: {message}", on=address, hint="does its pool have a free server?"
        )
    return BadAnswer(
        f"the server refused the statement: {message} ({sqlstate})", on=address, hint="is it a supported version?"
    )


def _connection_error(text: str) -> tuple[type[XaiRunbookError], str, str]:
    """Return class, message and hint for libpq's lower-cased text about a connection that failed or was lost."""
    if "password" in text and ("no password" in text or "authentication failed" in text):
        return AccessDenied, "the password is missing or wrong", "check password in the settings, or ~/.pgpass"
    if "too many" in text or "remaining connection slots" in text or "no more connections allowed" in text:
        return Unreachable, "all connection slots are taken", "see who holds them in 03_database"
    if "unsupported startup parameter" in text:
        return (
            WrongServer,
            "this is a pooler, not PostgreSQL itself",
            "set host and port to the server's own; a pooler in front of it belongs in [database.proxy]",
        )
    if "no pg_hba.conf entry" in text or "permission denied" in text:
        return AccessDenied, "the server rejected the login", "check the role, pg_hba.conf and sslmode"
    if tls := _tls_error(text):
        return tls
    if "database" in text and ("does not exist" in text or "no such" in text):
        return WrongServer, "the database does not exist", "check dbname in the settings"
    if "role" in text and ("does not exist" in text or "not permitted" in text):
        return AccessDenied, "the role does not exist, or may not log in", "check user in the settings"
    if "invalid response" in text or "expected authentication request" in text:
        return WrongServer, "this is not a PostgreSQL server", "does the port belong to another service?"
    if "definition of service" in text or "service file" in text:
        return Unreachable, "the libpq service is not defined", "check ~/.pg_service.conf or PGSERVICEFILE"
    if "does not exist" in text:
        return AccessDenied, "the server rejected the login", "check the role, pg_hba.conf and sslmode"
    if "could not translate" in text or "resolve" in text or "name or service" in text:
        return Unreachable, "no such host", "check host in the settings, and the resolver"
    if "refused" in text:
        return Unreachable, "the connection was refused", "is the server running, and on this port?"
    if "timeout" in text or "timed out" in text:
        return TimedOut, "no answer in time", "is it overloaded, stopped or cut off?"
    return Unreachable, "the connection failed or was lost", "check the server's log and the network"


def _tls_error(text: str) -> tuple[type[XaiRunbookError], str, str] | None:
    """Return class, message and hint for an error of TLS, or None for any other."""
    if "does not match host name" in text or "not match host" in text:
        return WrongServer, "the server's certificate is for another host", "check host in the settings"
    if "root certificate file" in text:
        return WrongServer, "no root certificate to verify the server with", "set sslrootcert to a PEM file"
    if "certificate verify failed" in text or "certificate has expired" in text:
        return (
            WrongServer,
            "the server's certificate cannot be verified",
            "check sslrootcert in the settings, and the certificate's dates",
        )
    if "does not support ssl" in text:
        return (
            WrongServer,
            "the server does not support TLS, which sslmode requires",
            "set ssl = on at the server; do not lower sslmode here",
        )
    if "certificate" in text or "ssl" in text:
        return WrongServer, "the TLS connection failed", "check sslmode and sslrootcert in the settings"
    return None
