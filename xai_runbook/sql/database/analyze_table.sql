-- Where another holds the table it is skipped, with a warning.
ANALYZE (SKIP_LOCKED) {table}
