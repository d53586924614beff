-- Waits for transactions that use the index, without blocking new ones.
DROP INDEX CONCURRENTLY {index}
