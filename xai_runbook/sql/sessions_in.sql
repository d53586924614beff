-- Sessions of others in these databases: renaming one needs it empty. Our own are ended by the swap itself.
SELECT datname::text AS database, count(*) AS sessions_count, string_agg(DISTINCT application_name, ', ') AS applications
FROM pg_stat_activity
WHERE datname = ANY (%(names)s) AND application_name NOT IN ('xai-runbook', 'xai-runbook apply')
GROUP BY 1 ORDER BY 1
