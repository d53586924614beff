-- As connections.sql; since 16 reserved_connections reserves further slots.
SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - current_setting('reserved_connections')::int AS usable
FROM pg_stat_activity
