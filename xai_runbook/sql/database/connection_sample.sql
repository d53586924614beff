-- One sample: client backends by state, and the number that ordinary clients can have.
SELECT clock_timestamp() AS at,
       count(*) AS used_count,
       count(*) FILTER (WHERE state = 'active') AS active_count,
       count(*) FILTER (WHERE state = 'idle') AS idle_count,
       count(*) FILTER (WHERE starts_with(state, 'idle in transaction')) AS idle_in_transaction_count,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int AS usable_count
FROM pg_stat_activity
WHERE backend_type = 'client backend'
