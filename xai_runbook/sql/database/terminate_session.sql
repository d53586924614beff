-- Compare and set: only the session that was planned for, not one that has its pid since.
SELECT coalesce(bool_and(pg_terminate_backend(pid)), false) AS done
FROM pg_stat_activity
WHERE pid = %(pid)s::int
  AND backend_start = %(backend_start)s::timestamptz
  AND datname = current_database()
  AND backend_type = 'client backend'
