"""What PostgreSQL, libpq and PgBouncer complain of, in our words: theirs can echo connection strings and passwords."""

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
    """Ours, from a template; of a statement that was refused, what the server said of it."""
    state = error.sqlstate
    if state is None:
        kind, what, hint = _not_connected(re.sub(r"'[^']*'|\"[^\"]*\"", "", str(error)).lower())  # without names
        return kind(what, on=address, hint=hint)
    said = inert(error.diag.message_primary or "", 300)
    if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
        return Damaged(f"stored data is damaged: {said}", on=address, hint="03_database, Is what is stored whole?")
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return TimedOut(f"the server gave up: {said}", on=address, hint="is it overloaded, or a table locked?")
    if isinstance(
        error, errors.InsufficientPrivilege | errors.InvalidPassword | errors.InvalidAuthorizationSpecification
    ):
        return AccessDenied(f"the server refused: {said}", on=address, hint="GRANT pg_monitor to the role")
    if isinstance(error, errors.TooManyConnections | errors.CannotConnectNow | errors.AdminShutdown):
        return Unreachable(f"the server turned us away: {said}", on=address, hint="is it starting, stopping or full?")
    if state.startswith("08"):  # what a pooler says of its servers has this class
        return Unreachable(f"the pooler turned us away: {said}", on=address, hint="has its pool a server that is free?")
    return BadAnswer(
        f"the server refused the statement: {said} ({state})", on=address, hint="is it a supported version?"
    )


def _not_connected(text: str) -> tuple[type[XaiRunbookError], str, str]:
    """Kind, words and hint for libpq's lower-cased text about a connection that did not come about or was lost."""
    if "password" in text and ("no password" in text or "authentication failed" in text):
        return AccessDenied, "no or a wrong password", "the password's reference, or ~/.pgpass"
    if "too many" in text or "remaining connection slots" in text or "no more connections allowed" in text:
        return Unreachable, "all its connection slots are taken", "03_database: who holds them"
    if "unsupported startup parameter" in text:
        return (
            WrongServer,
            "a pooler answers here, not PostgreSQL itself",
            "host and port are the server's own; a pooler in front of it is [database.proxy]",
        )
    if "no pg_hba.conf entry" in text or "permission denied" in text:
        return AccessDenied, "the server lets us not in", "the role, pg_hba.conf and sslmode"
    if tls := _no_tls(text):
        return tls
    if "database" in text and ("does not exist" in text or "no such" in text):
        return WrongServer, "there is no such database", "dbname in the settings"
    if "role" in text and ("does not exist" in text or "not permitted" in text):
        return AccessDenied, "there is no such role, or it may not log in", "user in the settings"
    if "invalid response" in text or "expected authentication request" in text:
        return WrongServer, "what answers is not PostgreSQL", "is the port another server's?"
    if "definition of service" in text or "service file" in text:
        return Unreachable, "libpq knows no such service", "~/.pg_service.conf or PGSERVICEFILE"
    if "does not exist" in text:
        return AccessDenied, "the server lets us not in", "the role, pg_hba.conf and sslmode"
    if "could not translate" in text or "resolve" in text or "name or service" in text:
        return Unreachable, "no such host", "host in the settings, and the resolver"
    if "refused" in text:
        return Unreachable, "the connection was refused", "does it run, and on this port?"
    if "timeout" in text or "timed out" in text:
        return TimedOut, "no answer in time", "is it overloaded, stopped or cut off?"
    return Unreachable, "the connection failed or was lost", "the server's log, and the network"


def _no_tls(text: str) -> tuple[type[XaiRunbookError], str, str] | None:
    """The same, where it is about TLS."""
    if "does not match host name" in text or "not match host" in text:
        return WrongServer, "its certificate is another host's", "host in the settings; is it the server that you mean?"
    if "root certificate file" in text:
        return WrongServer, "no authority to check its certificate against", "sslrootcert in the settings: a PEM file"
    if "certificate verify failed" in text or "certificate has expired" in text:
        return WrongServer, "its certificate is of no authority that we trust", "sslrootcert in the settings"
    if "does not support ssl" in text:
        return WrongServer, "it offers no TLS, and the settings want it", "ssl = on at the server; never sslmode here"
    if "certificate" in text or "ssl" in text:
        return WrongServer, "no TLS as the settings want it", "sslmode and sslrootcert"
    return None
