-- Client backends, and the number that ordinary clients can have: max_connections minus superuser_reserved_connections.
-- Background processes are not counted, since they take none of these slots.
SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS usable
FROM pg_stat_activity
