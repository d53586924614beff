-- Open transactions, oldest first: those of client sessions, and prepared ones, which have no session and stay until
-- they are committed or rolled back. holds_back_vacuum: rows that died since it began cannot be vacuumed.
SELECT pid::text AS transaction,
       datname::text AS database,
       usename::text AS role,
       application_name,
       state,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_seconds,
       backend_xid IS NOT NULL OR backend_xmin IS NOT NULL AS holds_back_vacuum,
       left(regexp_replace(query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
UNION ALL
SELECT 'prepared ' || gid, database::text, owner::text, '', 'prepared',
       extract(epoch FROM clock_timestamp() - prepared)::float8, true, ''
FROM pg_prepared_xacts
ORDER BY transaction_seconds DESC
LIMIT 200
