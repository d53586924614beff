-- Sessions that block others without waiting themselves, each followed by the sessions that wait for it. A session that
-- waits for two appears below both. A deadlock has no root and is not shown; the server soon resolves it.
WITH RECURSIVE waiting AS MATERIALIZED (
    SELECT DISTINCT pid, unnest(pg_blocking_pids(pid)) AS blocker
    FROM pg_stat_activity
    WHERE wait_event_type = 'Lock'
), tree AS (
    SELECT DISTINCT blocker AS pid, NULL::int AS blocked_by, 0 AS depth, ARRAY[blocker] AS path
    FROM waiting
    WHERE blocker NOT IN (SELECT pid FROM waiting)
    UNION ALL
    SELECT w.pid, w.blocker, t.depth + 1, t.path || w.pid
    FROM tree t JOIN waiting w ON w.blocker = t.pid
    WHERE NOT w.pid = ANY (t.path) AND t.depth < 20
)
SELECT t.depth,
       t.pid,
       t.blocked_by,
       a.datname::text AS database,
       a.usename::text AS role,
       CASE WHEN t.pid = 0 THEN 'prepared transaction'
            ELSE coalesce(nullif(a.application_name, ''), a.backend_type, '') END AS application_name,
       a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_seconds,
       left(regexp_replace(a.query, '''[^'']*''', '''…''', 'g'), 80) AS query
FROM tree t LEFT JOIN pg_stat_activity a ON a.pid = t.pid
ORDER BY t.path
LIMIT 200
