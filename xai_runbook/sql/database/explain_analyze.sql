-- Runs it, for a reader's role in a transaction that can write nothing and is rolled back.
EXPLAIN (ANALYZE, BUFFERS) {statement}
