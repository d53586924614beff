-- How many of these indexes, given by oid, still exist.
SELECT count(*) AS left_count FROM pg_index WHERE indexrelid = ANY (%(oids)s::bigint[]::oid[])
