-- Options in parentheses: what follows can be no option, and so cannot make the server run anything.
EXPLAIN (FORMAT TEXT) {statement}
