"""The contents of a database in a form that can be compared.

Each table has a number of rows and a checksum, each sequence a position, and objects are counted by kind. The checksum
is the sum over all rows of a 64-bit hash of the row's text, so the order of rows does not matter. Objects of extensions
are not counted: CREATE EXTENSION makes them, not the dump.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from xai_runbook.sql import statement

Contents = dict[str, Any]
Connection = psycopg.Connection[Any]

FINGERPRINT = 2
"""Version of the checksum. It is in the manifest, so that older backups are compared as they were made."""
FORMATS = {
    # the text of a row must not depend on the session
    "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "UTC", "bytea_output": "hex",
    "extra_float_digits": "1", "xmloption": "content", "search_path": "pg_catalog", "lc_monetary": "C",
    "quote_all_identifiers": "off", "default_transaction_read_only": "off",
    "row_security": "off",  # an error where a policy would hide rows, never fewer rows
    "statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": "10s",
}  # fmt: skip
_SINCE = {
    # our sessions wait for pg_dump and pg_restore for hours, whatever the server's defaults are
    "idle_session_timeout": (14, "0"), "transaction_timeout": (17, "0"),
    "client_connection_check_interval": (14, "2s"),  # P19: the server ends our queries soon after this process has died
}  # fmt: skip


def fetch_rows(connection: Connection, name: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the rows of the query `sql/NAME.sql`, in its variant for the version of this server."""
    cursor = connection.execute(statement(name, connection.info.server_version // 10000), parameters)
    return [dict(zip([column.name for column in cursor.description or ()], row, strict=True)) for row in cursor]


def connect(**parameters: Any) -> Connection:
    """Connect with libpq's environment and these parameters; the session's settings make texts of rows comparable."""
    connection = psycopg.connect(
        connect_timeout=15, application_name="xai-runbook backup", autocommit=True, keepalives_idle=30, **parameters
    )
    major = connection.info.server_version // 10000
    for name, value in {
        **FORMATS,
        **{name: value for name, (since, value) in _SINCE.items() if major >= since},
    }.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])
    return connection


def beside(connection: Connection, database: str) -> Connection:
    """Connect like that session to another database of the same server."""
    # all of them: what is left out would be taken from the environment, which may lead to another server
    parameters = {option.keyword.decode(): option.val.decode() for option in connection.pgconn.info if option.val}
    for own in ("connect_timeout", "application_name", "keepalives_idle"):
        parameters.pop(own, None)
    return connect(**parameters | {"dbname": database})


def contents(
    connection: Connection, progress: Callable[[str], object] = lambda _: None, *, fingerprint: int = FINGERPRINT
) -> Contents:
    """Return the contents as this transaction sees them. `progress` is called for each table, and may raise."""
    tables: dict[str, dict[str, str]] = {}
    text = statement("table_contents" if fingerprint == FINGERPRINT else f"table_contents_before_{FINGERPRINT}", 0)
    for row in fetch_rows(connection, "backup_tables"):
        schema, table = row["schema"], row["table"]
        progress(f"counting {schema}.{table}")
        answer = connection.execute(sql.SQL(text).format(table=sql.Identifier(schema, table))).fetchone()
        assert answer is not None
        tables[_key(schema, table)] = {"rows": str(answer[0]), "checksum": str(answer[1])}
    objects = {str(row["kind"]): int(row["count"]) for row in fetch_rows(connection, "backup_objects")}
    positions = {name: [position] for name, position in sequences(connection).items()}
    return {"fingerprint": fingerprint, "tables": tables, "sequences": positions, "objects": objects}


def sequences(connection: Connection) -> dict[str, str]:
    """Return the current position of every sequence: snapshots do not cover sequences."""
    positions = {}
    for row in fetch_rows(connection, "backup_sequences"):
        schema, sequence = row["schema"], row["sequence"]
        query = sql.SQL(statement("sequence_position", 0)).format(sequence=sql.Identifier(schema, sequence))
        answer = connection.execute(query).fetchone()
        assert answer is not None
        positions[_key(schema, sequence)] = str(answer[0])
    return positions


def differences(expected: Contents, found: Contents) -> list[str]:
    """Return a description of each difference."""
    differing = []
    before, after = expected["tables"], found["tables"]
    differing += [f"table {name} is missing" for name in before if name not in after]
    differing += [f"table {name} was not in the backup" for name in after if name not in before]
    for name, table in before.items():
        if name in after and after[name] != table:
            rows = f"{after[name]['rows']} rows instead of {table['rows']}"
            differing.append(f"table {name} has {rows if after[name]['rows'] != table['rows'] else 'other content'}")
    for name, positions in expected.get("sequences", {}).items():
        if name not in found["sequences"]:
            differing.append(f"sequence {name} is missing")
        elif not _is_between(found["sequences"][name][0], positions):
            differing.append(f"sequence {name} is at {found['sequences'][name][0]} instead of {' to '.join(positions)}")
    for kind in sorted(expected["objects"].keys() | found["objects"].keys()):
        count_before, count_after = expected["objects"].get(kind, 0), found["objects"].get(kind, 0)
        if count_before != count_after:
            differing.append(f"{count_after} {kind} instead of {count_before}")
    return differing


def total_rows(contents: Contents) -> int:
    """Return the number of rows in all tables."""
    return sum(int(table["rows"]) for table in contents["tables"].values())


def _is_between(position: str, positions: list[str]) -> bool:
    """Return whether the position is the dumped one or, if it moved during the dump, between the two."""
    if len(set(positions)) == 1:
        return position == positions[0]
    numbers = sorted(int(each.split()[0]) for each in positions)
    return numbers[0] <= int(position.split()[0]) <= numbers[-1]


def _key(schema: str, table: str) -> str:
    quoted = [
        part if part.isidentifier() and part.islower() else '"' + part.replace('"', '""') + '"'
        for part in (schema, table)
    ]
    return ".".join(quoted)
