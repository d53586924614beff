-- The indexes of users' tables, those that are not valid first, then the largest; of the toast tables behind them only
-- what is broken. One that is being built, or rebuilt, is not valid yet and is no fault: the progress view tells which
-- table is worked on. Only what is shown is measured, which opens it; the largest are chosen by the last vacuum's pages.
WITH shown AS (
    SELECT x.*, i.relname, i.relpages, t.relname AS of_table, n.nspname,
           x.indisvalid AND x.indisready AND x.indislive AS whole, count(*) OVER () AS of_all
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = i.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND t.relpersistence <> 't'
      AND (t.relkind <> 't' OR NOT x.indisvalid)
    ORDER BY whole, i.relpages DESC, n.nspname, i.relname
    LIMIT %(most)s
)
SELECT s.nspname || '.' || s.relname AS name,
       s.nspname || '.' || s.of_table AS "table",
       s.whole AS valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
               WHERE p.relid = s.indrelid AND p.datname = current_database()) AS building,
       s.relname ~ '_cc(new|old)[0-9]*$' AS leftover,
       s.indisunique AS is_unique,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = s.indexrelid) AS of_constraint,
       pg_relation_size(s.indexrelid) AS size_bytes,
       coalesce(pg_stat_get_numscans(s.indexrelid), 0) AS scans,
       pg_get_indexdef(s.indexrelid) AS definition,
       s.indexrelid::bigint AS oid,
       s.of_all
FROM shown s
ORDER BY valid, size_bytes DESC, name
