-- Rows that no transaction can see any more, or that only an old one can, as the statistics count them.
SELECT n.nspname || '.' || c.relname AS name,
       s.n_live_tup AS live_rows,
       s.n_dead_tup AS dead_rows,
       CASE WHEN s.n_dead_tup >= %(fewest)s THEN s.n_dead_tup::float8 / (s.n_live_tup + s.n_dead_tup) ELSE 0 END
           AS dead_ratio,
       pg_relation_size(c.oid) AS heap_bytes,
       greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at,
       greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at,
       s.n_mod_since_analyze AS changed_rows,
       NOT coalesce((SELECT option_value::boolean FROM pg_options_to_table(c.reloptions)
                     WHERE option_name = 'autovacuum_enabled'), true) AS autovacuum_off,
       c.oid::bigint AS oid
FROM pg_stat_user_tables s
JOIN pg_class c ON c.oid = s.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't'
ORDER BY dead_ratio DESC, s.n_dead_tup DESC, name
