"""The contents of a database, in a form that can be compared: each table's rows and checksum, each sequence's position,
and how many objects of each kind there are.

A table's checksum is the sum over its rows of a 64-bit hash of the row's text, so the order of rows does not matter.
What extensions brought is not counted: it comes with CREATE EXTENSION, not with the dump.
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
"""How checksums are made; manifests say it, so that one of an earlier version is compared as it was made."""
FORMATS = {
    # a row's text must not depend on who asks
    "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "UTC", "bytea_output": "hex",
    "extra_float_digits": "1", "xmloption": "content", "search_path": "pg_catalog", "lc_monetary": "C",
    "quote_all_identifiers": "off", "default_transaction_read_only": "off",
    "row_security": "off",  # an error where a policy would hide rows, never fewer rows
    "statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": "10s",
}  # fmt: skip
_SINCE = {
    # what a server may have set for everybody: our sessions wait for pg_dump and pg_restore, however long
    "idle_session_timeout": (14, "0"), "transaction_timeout": (17, "0"),
    "client_connection_check_interval": (14, "2s"),  # what it counts for us ends soon after us (P19)
}  # fmt: skip


def ask(connection: Connection, name: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The rows that `sql/NAME.sql` of this server's version answers with."""
    cursor = connection.execute(statement(name, connection.info.server_version // 10000), parameters)
    return [dict(zip([column.name for column in cursor.description or ()], row, strict=True)) for row in cursor]


def connect(**words: Any) -> Connection:
    """A session with libpq's environment and these words over it, in which texts of rows are always the same."""
    connection = psycopg.connect(
        connect_timeout=15, application_name="xai-runbook backup", autocommit=True, keepalives_idle=30, **words
    )
    major = connection.info.server_version // 10000
    for name, value in {
        **FORMATS,
        **{name: value for name, (since, value) in _SINCE.items() if major >= since},
    }.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])
    return connection


def beside(connection: Connection, database: str) -> Connection:
    """A session like that one, in another database of the same server."""
    # all of them: what is left out would be taken from the environment, which may lead to another server
    parameters = {option.keyword.decode(): option.val.decode() for option in connection.pgconn.info if option.val}
    for own in ("connect_timeout", "application_name", "keepalives_idle"):
        parameters.pop(own, None)
    return connect(**parameters | {"dbname": database})


def contents(
    connection: Connection, alive: Callable[[str], object] = lambda _: None, *, fingerprint: int = FINGERPRINT
) -> Contents:
    """The contents as this session's transaction sees them. `alive` hears of each table, and may raise."""
    tables: dict[str, dict[str, str]] = {}
    text = statement("table_contents" if fingerprint == FINGERPRINT else f"table_contents_before_{FINGERPRINT}", 0)
    for found in ask(connection, "backup_tables"):
        schema, table = found["schema"], found["table"]
        alive(f"counting {schema}.{table}")
        row = connection.execute(sql.SQL(text).format(table=sql.Identifier(schema, table))).fetchone()
        assert row is not None
        tables[_key(schema, table)] = {"rows": str(row[0]), "checksum": str(row[1])}
    objects = {str(row["kind"]): int(row["count"]) for row in ask(connection, "backup_objects")}
    positions = {name: [position] for name, position in sequences(connection).items()}
    return {"fingerprint": fingerprint, "tables": tables, "sequences": positions, "objects": objects}


def sequences(connection: Connection) -> dict[str, str]:
    """The position of every sequence at this moment: no snapshot covers sequences."""
    positions = {}
    for found in ask(connection, "backup_sequences"):
        schema, sequence = found["schema"], found["sequence"]
        query = sql.SQL(statement("sequence_position", 0)).format(sequence=sql.Identifier(schema, sequence))
        row = connection.execute(query).fetchone()
        assert row is not None
        positions[_key(schema, sequence)] = str(row[0])
    return positions


def differences(expected: Contents, found: Contents, left_out: frozenset[str] = frozenset()) -> list[str]:
    """What is not the same, in words; empty where everything is. `left_out` are kinds of object not to compare."""
    told = []
    then, now = expected["tables"], found["tables"]
    told += [f"table {name} is missing" for name in then if name not in now]
    told += [f"table {name} was not in the backup" for name in now if name not in then]
    for name, table in then.items():
        if name in now and now[name] != table:
            rows = f"{now[name]['rows']} rows instead of {table['rows']}"
            told.append(f"table {name} has {rows if now[name]['rows'] != table['rows'] else 'other content'}")
    for name, positions in expected.get("sequences", {}).items():
        if name not in found["sequences"]:
            told.append(f"sequence {name} is missing")
        elif not _lies_between(found["sequences"][name][0], positions):
            told.append(f"sequence {name} is at {found['sequences'][name][0]} instead of {' to '.join(positions)}")
    kinds = sorted((expected["objects"].keys() | found["objects"].keys()) - left_out)
    for kind in kinds:
        before, after = expected["objects"].get(kind, 0), found["objects"].get(kind, 0)
        if before != after:
            told.append(f"{after} {kind} instead of {before}")
    return told


def rows_of(told: Contents) -> int:
    """How many rows there are in all tables together."""
    return sum(int(table["rows"]) for table in told["tables"].values())


def _lies_between(position: str, positions: list[str]) -> bool:
    """Whether a sequence is where it was, or, if it moved while it was dumped, between where it began and ended."""
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
