-- Precondition: the name still refers to the planned index, and nothing requires it.
SELECT count(*) = 1 AS done
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s::bigint::oid AND n.nspname = %(schema)s AND c.relname = %(name)s
  AND c.oid NOT IN (SELECT oid FROM (
\ir required_indexes.sql
) held)
