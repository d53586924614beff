-- Beside the old one, which serves until the new one is whole. It cannot be in a transaction.
REINDEX INDEX CONCURRENTLY {index}
