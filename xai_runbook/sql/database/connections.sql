-- Client backends, and the ceiling a client meets: max_connections less the slots kept for superusers.
-- Background processes are not counted; they take no slot a client could have.
SELECT count(*) FILTER (WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS usable
FROM pg_stat_activity
