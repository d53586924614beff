-- Age of the oldest transaction of another session of this database, or 0. A concurrent index build waits for all of
-- them.
SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8 AS open_seconds
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
  AND backend_type = 'client backend'
