-- Never FULL, which locks everybody out. Where another holds the table it is skipped, with a warning.
VACUUM (SKIP_LOCKED) {table}
