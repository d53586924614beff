-- Compare and set: cancel only the planned statement, not a later one of the session.
SELECT coalesce(bool_and(pg_cancel_backend(pid)), false) AS done
FROM pg_stat_activity
WHERE pid = %(pid)s::int
  AND backend_start = %(backend_start)s::timestamptz
  AND query_start = %(query_start)s::timestamptz
  AND state = 'active'
  AND datname = current_database()
  AND backend_type = 'client backend'
