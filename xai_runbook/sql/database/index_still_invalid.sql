-- Precondition: the name still refers to the planned index, which is still invalid and not being built.
SELECT count(*) = 1 AS done
FROM pg_index x
JOIN pg_class c ON c.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s::bigint::oid AND n.nspname = %(schema)s AND c.relname = %(name)s
  AND NOT (x.indisvalid AND x.indisready AND x.indislive)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
                  WHERE p.relid = x.indrelid AND p.datname = current_database())
