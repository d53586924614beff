-- What holds back the xmin horizon: rows that died after the oldest of these began cannot be vacuumed.
SELECT 'session' AS kind,
       'pid ' || pid || ' of ' || coalesce(usename::text, backend_type) || ' (' || application_name || ')' AS name,
       greatest(age(backend_xmin), age(backend_xid))::bigint AS transaction_age,
       extract(epoch FROM now() - xact_start)::float8 AS open_seconds
FROM pg_stat_activity
WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
UNION ALL
SELECT 'replication slot', slot_name::text, greatest(age(xmin), age(catalog_xmin))::bigint, NULL
FROM pg_replication_slots
WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
UNION ALL
SELECT 'prepared transaction', left(gid, 60), age(transaction)::bigint, extract(epoch FROM now() - prepared)::float8
FROM pg_prepared_xacts
ORDER BY transaction_age DESC
LIMIT %(max_rows)s
