-- Compare before the statement: the name still leads to the table or index that was planned for.
SELECT count(*) = 1 AS done
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s::bigint::oid AND n.nspname = %(schema)s AND c.relname = %(name)s
