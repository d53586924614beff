-- These sessions. Pids are reused, so a session is identified by pid and start time. Only columns that do not change on
-- their own, for plans: state and query would differ each time.
SELECT pid,
       backend_start,
       datname::text AS database,
       usename::text AS role,
       application_name,
       coalesce(host(client_addr), 'socket') AS client_address
FROM pg_stat_activity
WHERE pid = ANY (%(pids)s::int[])
  AND backend_type = 'client backend'
  AND datname = current_database()
  AND pid <> pg_backend_pid()
  AND application_name NOT IN ('xai-runbook', 'xai-runbook apply')
ORDER BY pid
