-- Indexes of user tables, invalid ones first, then the largest; of TOAST indexes only invalid ones. An index that is
-- being built is not valid yet, so the progress view is consulted. Measuring opens an index, so the largest are chosen
-- by relpages, and only those are measured.
WITH shown AS (
    SELECT x.*, i.relname, i.relpages, t.relname AS of_table, n.nspname,
           x.indisvalid AND x.indisready AND x.indislive AS valid, count(*) OVER () AS total_count
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = i.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND t.relpersistence <> 't'
      AND (t.relkind <> 't' OR NOT x.indisvalid)
    ORDER BY valid, i.relpages DESC, n.nspname, i.relname
    LIMIT %(max_rows)s
)
SELECT s.nspname || '.' || s.relname AS name,
       s.nspname || '.' || s.of_table AS "table",
       s.valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
               WHERE p.relid = s.indrelid AND p.datname = current_database()) AS building,
       s.relname ~ '_cc(new|old)[0-9]*$' AS leftover,
       s.indisunique AS is_unique,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = s.indexrelid) AS backs_constraint,
       pg_relation_size(s.indexrelid) AS size_bytes,
       coalesce(pg_stat_get_numscans(s.indexrelid), 0) AS scans,
       pg_get_indexdef(s.indexrelid) AS definition,
       s.indexrelid::bigint AS oid,
       s.total_count
FROM shown s
ORDER BY valid, size_bytes DESC, name
