-- Not FULL, which locks the table exclusively. A table that another session has locked is skipped with a warning.
VACUUM (SKIP_LOCKED) {table}
