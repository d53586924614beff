-- Indexes without a scan since the statistics' reset that are not unique and that nothing requires. Each standby counts
-- its own scans.
WITH held AS (
\ir required_indexes.sql
)
SELECT n.nspname || '.' || i.relname AS name,
       n.nspname || '.' || t.relname AS "table",
       pg_relation_size(x.indexrelid) AS size_bytes,
       s.idx_scan AS scans,
       d.stats_reset AS since,
       pg_get_indexdef(x.indexrelid) AS definition
FROM pg_stat_user_indexes s
JOIN pg_index x ON x.indexrelid = s.indexrelid
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = i.relnamespace
LEFT JOIN pg_stat_database d ON d.datname = current_database()
WHERE s.idx_scan = 0
  AND x.indisvalid AND x.indisready AND x.indislive AND NOT x.indisunique AND NOT x.indisexclusion
  AND x.indexrelid NOT IN (SELECT oid FROM held)
ORDER BY size_bytes DESC, name
LIMIT %(max_rows)s
