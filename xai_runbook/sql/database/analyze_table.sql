-- A table that another session has locked is skipped with a warning.
ANALYZE (SKIP_LOCKED) {table}
