-- Client sessions that wait for a lock, and the sessions that block them. Before 14 the start of a wait is not
-- recorded, so waiting_seconds counts from the start of the statement.
WITH waiting AS MATERIALIZED (
    SELECT a.*, ARRAY(SELECT DISTINCT unnest(pg_blocking_pids(a.pid)) ORDER BY 1) AS blockers
    FROM pg_stat_activity a
    WHERE a.wait_event_type = 'Lock' AND a.backend_type = 'client backend'
)
SELECT w.pid,
       w.datname::text AS database,
       w.usename::text AS role,
       w.application_name,
       array_to_string(w.blockers, ', ') AS blocked_by,
       (SELECT coalesce(string_agg(DISTINCT coalesce(nullif(b.application_name, ''), b.backend_type, 'prepared transaction'),
                                   ', '), '')
        FROM unnest(w.blockers) AS blocker(pid)
        LEFT JOIN pg_stat_activity b ON b.pid = blocker.pid) AS blocked_by_application,
       greatest(0, extract(epoch FROM clock_timestamp() - w.query_start))::float8 AS waiting_seconds,
       l.mode,
       CASE WHEN l.relation IS NULL THEN l.locktype
            WHEN l.here THEN l.relation::regclass::text
            ELSE 'relation ' || l.relation END AS waits_for,
       left(regexp_replace(w.query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM waiting w
LEFT JOIN LATERAL (
    SELECT mode, relation, locktype, database = (SELECT oid FROM pg_database WHERE datname = current_database()) AS here
    FROM pg_locks
    WHERE pid = w.pid AND NOT granted
    LIMIT 1
) l ON true
ORDER BY waiting_seconds DESC
