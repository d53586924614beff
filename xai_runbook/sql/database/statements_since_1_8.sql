-- Versions 1.8 to 1.10: execution time without planning. Texts are truncated and without literals.
SELECT s.queryid::text AS query_id,
       r.rolname::text AS role,
       s.calls,
       s.total_exec_time / 1000 AS total_seconds,
       s.mean_exec_time / 1000 AS mean_seconds,
       s.max_exec_time / 1000 AS longest_seconds,
       s.total_exec_time / nullif(sum(s.total_exec_time) OVER (), 0) AS total_ratio,
       s.rows,
       s.shared_blks_hit::float8 / nullif(s.shared_blks_hit + s.shared_blks_read, 0) AS hit_ratio,
       (s.blk_read_time) / 1000 AS read_seconds,
       NULL::timestamptz AS since,
       left(regexp_replace(regexp_replace(s.query, '''[^'']*''', '''…''', 'g'), '\s+', ' ', 'g'), 300) AS query
FROM {schema}.pg_stat_statements s
LEFT JOIN pg_roles r ON r.oid = s.userid
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND s.calls >= %(min_calls)s
ORDER BY CASE %(order)s::text WHEN 'mean' THEN s.mean_exec_time WHEN 'calls' THEN s.calls ELSE s.total_exec_time END DESC
LIMIT %(max_rows)s
