-- Options are in parentheses, so that the statement cannot add one, such as ANALYZE.
EXPLAIN (FORMAT TEXT) {statement}
