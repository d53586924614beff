"""What of a statement no rollback takes back: functions that end sessions, move sequences, or reach another server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from xai_runbook.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

    from xai_runbook.clients.postgres.reader import Database

HARMLESS = (
    # volatile functions that change nothing beyond the transaction: time, chance, sizes, what is so right now
    "clock_timestamp", "timeofday", "pg_sleep", "pg_sleep_for", "pg_sleep_until",
    "random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1", "uuid_generate_v1mc",
    "uuid_generate_v4", "gen_random_bytes", "gen_salt", "currval", "lastval",
    "pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size", "pg_database_size",
    "pg_tablespace_size", "pg_is_in_recovery", "pg_current_wal_lsn", "pg_current_wal_insert_lsn",
    "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn", "pg_last_xact_replay_timestamp", "pg_lock_status",
    "pg_blocking_pids", "pg_prepared_xact", "pg_stat_get_xact_numscans", "txid_current_if_assigned",
    "pg_current_xact_id_if_assigned", "suppress_redundant_updates_trigger", "tsvector_update_trigger",
    "tsvector_update_trigger_column", "unique_key_recheck",
    # stable functions of extensions that run no SQL: pg_trgm's operators read its threshold, unaccent its rules
    "similarity_op", "word_similarity_op", "word_similarity_commutator_op", "strict_word_similarity_op",
    "strict_word_similarity_commutator_op", "show_limit", "unaccent",
)  # fmt: skip
_WRITES = re.compile(r"\b(insert|update|delete|merge)\b", re.IGNORECASE)


def lasting_effects(database: Database, *, statement: str) -> DataFrame:
    """What a statement may do that stays when it is rolled back, as far as the catalogue tells; empty for nothing.

    It is not run, nor planned. Every name in its text counts, in literals and comments too: rather one too many.
    Columns: name (of a function, a foreign table or a sequence), effect (lasts; sequence: it stays where it is moved
    to; unknown: somebody's own function, or one of an extension that is stable, which can do anything).
    Errors: InputError for names with Unicode escapes.
    Source: PostgreSQL docs, Function Volatility Categories.
    """
    if re.search(r"u&\s*[\"']", statement, re.IGNORECASE):
        raise InputError("names with Unicode escapes are not read here", hint="write the characters themselves")
    parameters = {
        "statement": statement, "writes": _WRITES.search(statement) is not None, "harmless": list(HARMLESS)
    }  # fmt: skip
    return database.frame("lasting_effects", parameters)
