-- Whether an index of that name exists (on that table, if one is given) and is valid.
SELECT coalesce(bool_and(x.indisvalid AND x.indisready AND x.indislive), false) AS valid
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE (%(table_oid)s::bigint IS NULL OR x.indrelid = %(table_oid)s::bigint) AND n.nspname || '.' || i.relname = %(name)s
