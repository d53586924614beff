-- Compare and set: terminate only the planned session, not a later one with the same pid.
SELECT coalesce(bool_and(pg_terminate_backend(pid)), false) AS done
FROM pg_stat_activity
WHERE pid = %(pid)s::int
  AND backend_start = %(backend_start)s::timestamptz
  AND datname = current_database()
  AND backend_type = 'client backend'
