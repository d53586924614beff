-- Builds a new index beside the old one, which stays in use until then. It cannot run in a transaction.
REINDEX INDEX CONCURRENTLY {index}
