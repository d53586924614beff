-- How long the oldest transaction of another session of this database is open; 0 where none is. Building an index
-- concurrently waits for it, whatever it does.
SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8 AS open_seconds
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
  AND backend_type = 'client backend'
