-- Every index of a user's table; of the toast tables behind them only what is broken. One that is being built, or rebuilt, is not valid yet and is no fault:
-- pg_stat_progress_create_index tells which table is worked on.
SELECT n.nspname || '.' || i.relname AS name,
       n.nspname || '.' || t.relname AS "table",
       x.indisvalid AND x.indisready AND x.indislive AS valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
               WHERE p.relid = x.indrelid AND p.datid = (SELECT oid FROM pg_database WHERE datname = current_database()))
           AS building,
       i.relname ~ '_cc(new|old)[0-9]*$' AS leftover,
       x.indisunique AS is_unique,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid) AS of_constraint,
       pg_relation_size(x.indexrelid) AS size_bytes,
       coalesce(s.idx_scan, 0) AS scans,
       pg_get_indexdef(x.indexrelid) AS definition,
       x.indexrelid::bigint AS oid
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = i.relnamespace
LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = x.indexrelid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND t.relpersistence <> 't'
  AND (t.relkind <> 't' OR NOT x.indisvalid)
ORDER BY valid, size_bytes DESC, name
