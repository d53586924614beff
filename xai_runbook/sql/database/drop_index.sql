-- Waits for those who still use it, without keeping new ones out.
DROP INDEX CONCURRENTLY {index}
