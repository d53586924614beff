-- Client sessions that are idle in a transaction: they keep their locks and hold back vacuum.
SELECT pid,
       datname::text AS database,
       usename::text AS role,
       application_name,
       coalesce(host(client_addr), 'socket') AS client_address,
       state,
       extract(epoch FROM clock_timestamp() - state_change)::float8 AS state_seconds,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_seconds,
       left(regexp_replace(query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND starts_with(state, 'idle in transaction')
ORDER BY state_change
LIMIT 200
