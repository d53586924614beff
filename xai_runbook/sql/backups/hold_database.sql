-- Held by this session until it ends: the database of this oid is being filled. See leftover_databases.
SELECT pg_advisory_lock((7820::bigint << 32) | %(oid)s::bigint)
