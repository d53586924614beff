-- Sessions of other roles in these databases, which prevent a rename. The swap ends those of the reader role itself.
SELECT datname::text AS database, count(*) AS sessions_count,
       coalesce(string_agg(DISTINCT usename || ' (' || application_name || ')', ', '), '') AS who
FROM pg_stat_activity
WHERE datname = ANY (%(names)s) AND usename <> current_user AND application_name <> 'xai-runbook apply'
  AND backend_type NOT IN ('autovacuum worker', 'parallel worker')
GROUP BY 1 ORDER BY 1
