-- Writers go on meanwhile. It cannot be in a transaction; what ends early stays behind, invalid.
CREATE INDEX CONCURRENTLY {index} ON {table} ({columns})
