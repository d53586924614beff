-- Client sessions by application, role, client and database. idle_count: sessions idle for at least idle_seconds.
-- opened_last_hour_count: those of them that were opened within the last hour.
SELECT application_name,
       usename::text AS role,
       coalesce(host(client_addr), 'socket') AS client_address,
       datname::text AS database,
       count(*) AS session_count,
       count(*) FILTER (WHERE is_idle) AS idle_count,
       count(*) FILTER (WHERE starts_with(state, 'idle in transaction')) AS idle_in_transaction_count,
       coalesce(max(idle_seconds) FILTER (WHERE is_idle), 0) AS longest_idle_seconds,
       count(*) FILTER (WHERE is_idle AND backend_start > now() - interval '1 hour') AS opened_last_hour_count
FROM (SELECT *,
             extract(epoch FROM clock_timestamp() - state_change)::float8 AS idle_seconds,
             state IN ('idle', 'idle in transaction', 'idle in transaction (aborted)')
                 AND clock_timestamp() - state_change >= %(idle_seconds)s::float8 * interval '1 second' AS is_idle
      FROM pg_stat_activity
      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS sessions
GROUP BY 1, 2, 3, 4
ORDER BY idle_count DESC, session_count DESC
LIMIT 200
