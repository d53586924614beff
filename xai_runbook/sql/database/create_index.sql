-- Does not block writes. It cannot run in a transaction; if interrupted, it leaves an invalid index.
CREATE INDEX CONCURRENTLY {index} ON {table} ({columns})
