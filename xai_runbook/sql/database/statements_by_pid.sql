-- The statements that these sessions are running; query_start distinguishes them from later ones. Texts are truncated
-- and without literals, which may be secrets.
SELECT pid,
       backend_start,
       query_start,
       datname::text AS database,
       usename::text AS role,
       application_name,
       left(regexp_replace(query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM pg_stat_activity
WHERE pid = ANY (%(pids)s::int[])
  AND backend_type = 'client backend'
  AND state = 'active'
  AND datname = current_database()
  AND pid <> pg_backend_pid()
  AND application_name NOT IN ('xai-runbook', 'xai-runbook apply')
ORDER BY pid
