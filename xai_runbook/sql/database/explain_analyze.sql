-- Runs the statement, as the reader role in a read-only transaction that is rolled back.
EXPLAIN (ANALYZE, BUFFERS) {statement}
