"""Effects of a statement that survive a rollback: ended sessions, advanced sequences, writes to other servers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xai_runbook.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

HARMLESS = (
    # volatile functions without effects: time, random values, sizes, the current state
    "clock_timestamp", "timeofday", "pg_sleep", "pg_sleep_for", "pg_sleep_until",
    "random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1", "uuid_generate_v1mc",
    "uuid_generate_v4", "gen_random_bytes", "gen_salt", "currval", "lastval",
    "pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size", "pg_database_size",
    "pg_tablespace_size", "pg_is_in_recovery", "pg_current_wal_lsn", "pg_current_wal_insert_lsn",
    "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn", "pg_last_xact_replay_timestamp", "pg_lock_status",
    "pg_blocking_pids", "pg_prepared_xact", "pg_stat_get_xact_numscans", "txid_current_if_assigned",
    "pg_current_xact_id_if_assigned", "suppress_redundant_updates_trigger", "tsvector_update_trigger",
    "tsvector_update_trigger_column", "unique_key_recheck",
    # stable functions of extensions that run no SQL: pg_trgm's operators read a threshold, unaccent its rules
    "similarity_op", "word_similarity_op", "word_similarity_commutator_op", "strict_word_similarity_op",
    "strict_word_similarity_commutator_op", "show_limit", "unaccent",
)  # fmt: skip
_WRITES = re.compile(r"\b(insert|update|delete|merge)\b", re.IGNORECASE)


def lasting_effects(database: Database, *, statement: str) -> DataFrame:
    """Return the effects of a statement that a rollback does not undo, as far as the catalogue shows.

    The statement is neither run nor planned. Every name in its text counts, also in literals and comments, so that
    none is missed. Columns: name (function, foreign table or sequence), effect (lasts: known not to roll back;
    sequence: the sequence is not moved back; unknown: a user's function or a stable one of an extension, which can do
    anything). Errors: InputError for names with Unicode escapes.
    Source: PostgreSQL docs, Function Volatility Categories.
    """
    if re.search(r"u&\s*[\"']", statement, re.IGNORECASE):
        raise InputError("names with Unicode escapes are not supported", hint="write the characters themselves")
    parameters = {
        "statement": statement, "writes": _WRITES.search(statement) is not None, "harmless": list(HARMLESS)
    }  # fmt: skip
    return database.frame("lasting_effects", parameters)
