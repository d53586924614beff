-- Lock the database of this oid until this session ends, to show that it is being filled. See leftover_databases.
SELECT pg_advisory_lock((7820::bigint << 32) | %(oid)s::bigint)
