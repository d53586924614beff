-- Client sessions, longest in their state first. Query texts are truncated and without literals, which may be secrets.
SELECT pid,
       datname::text AS database,
       usename::text AS role,
       application_name,
       coalesce(host(client_addr), 'socket') AS client_address,
       state,
       wait_event_type,
       wait_event,
       extract(epoch FROM now() - state_change)::float8 AS state_seconds,
       extract(epoch FROM now() - xact_start)::float8 AS transaction_seconds,
       backend_start AS started_at,
       left(regexp_replace(query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
ORDER BY state_change
LIMIT %(max_rows)s
