-- As blocked_sessions.sql; since 14 pg_locks.waitstart has the start of the wait, except for its first moment.
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
       greatest(0, extract(epoch FROM clock_timestamp() - coalesce(l.waitstart, w.query_start)))::float8
           AS waiting_seconds,
       l.mode,
       CASE WHEN l.relation IS NULL THEN l.locktype
            WHEN l.here THEN l.relation::regclass::text
            ELSE 'relation ' || l.relation END AS waits_for,
       left(regexp_replace(w.query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM waiting w
LEFT JOIN LATERAL (
    SELECT mode, relation, locktype, waitstart,
           database = (SELECT oid FROM pg_database WHERE datname = current_database()) AS here
    FROM pg_locks
    WHERE pid = w.pid AND NOT granted
    LIMIT 1
) l ON true
ORDER BY waiting_seconds DESC
