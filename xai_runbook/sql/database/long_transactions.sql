-- Open transactions, oldest first: of client sessions, and prepared ones, which no session holds and which stay until
-- somebody ends them. horizon: whether rows that died since cannot be vacuumed because of it.
SELECT pid::text AS transaction,
       datname::text AS database,
       usename::text AS role,
       application_name,
       state,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_seconds,
       backend_xid IS NOT NULL OR backend_xmin IS NOT NULL AS horizon,
       left(regexp_replace(query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
UNION ALL
SELECT 'prepared ' || gid, database::text, owner::text, '', 'prepared',
       extract(epoch FROM clock_timestamp() - prepared)::float8, true, ''
FROM pg_prepared_xacts
ORDER BY transaction_seconds DESC
LIMIT 200
