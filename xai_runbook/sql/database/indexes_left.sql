-- How many of these indexes, named by oid, are still there.
SELECT count(*) AS left_count FROM pg_index WHERE indexrelid = ANY (%(oids)s::bigint[]::oid[])
