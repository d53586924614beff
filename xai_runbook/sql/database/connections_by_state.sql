-- Client backends by database, role and state. Background processes are left out.
SELECT datname::text AS database,
       usename::text AS role,
       coalesce(state, 'unknown') AS state,
       count(*) AS session_count,
       max(extract(epoch FROM clock_timestamp() - state_change))::float8 AS longest_state_seconds
FROM pg_stat_activity
WHERE backend_type = 'client backend'
GROUP BY 1, 2, 3
ORDER BY session_count DESC, 1, 2, 3
