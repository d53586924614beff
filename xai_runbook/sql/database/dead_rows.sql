-- Estimated dead rows per table, from the statistics.
WITH counted AS (
    SELECT c.oid, n.nspname, c.relname, c.reloptions,
           pg_stat_get_live_tuples(c.oid) AS live_rows, pg_stat_get_dead_tuples(c.oid) AS dead_rows
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
),
worst AS (
    SELECT *, CASE WHEN dead_rows >= %(min_dead_rows)s THEN dead_rows::float8 / (live_rows + dead_rows) ELSE 0 END AS dead_ratio
    FROM counted
    ORDER BY dead_ratio DESC, dead_rows DESC, nspname, relname
    LIMIT %(max_rows)s
)
SELECT nspname || '.' || relname AS name,
       live_rows,
       dead_rows,
       dead_ratio,
       pg_relation_size(oid) AS heap_bytes,
       greatest(pg_stat_get_last_vacuum_time(oid), pg_stat_get_last_autovacuum_time(oid)) AS vacuumed_at,
       greatest(pg_stat_get_last_analyze_time(oid), pg_stat_get_last_autoanalyze_time(oid)) AS analyzed_at,
       pg_stat_get_mod_since_analyze(oid) AS changed_rows,
       NOT coalesce((SELECT option_value::boolean FROM pg_options_to_table(reloptions)
                     WHERE option_name = 'autovacuum_enabled'), true) AS autovacuum_off,
       oid::bigint AS oid
FROM worst
ORDER BY dead_ratio DESC, dead_rows DESC, name
