-- Databases with the names of unfinished restores and removals. marked: its comment is the mark that this package sets,
-- which other databases do not have. in_use: the session that fills it still holds lock (7820, oid).
SELECT d.oid::text AS oid,
       d.datname::text AS name,
       pg_database_size(d.oid) AS size_bytes,
       (SELECT count(*) FROM pg_stat_activity a
        WHERE a.datid = d.oid AND a.backend_type = 'client backend') AS sessions_count,
       EXISTS (SELECT FROM pg_locks l
               WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid = 7820 AND l.objid = d.oid) AS in_use,
       coalesce(shobj_description(d.oid, 'pg_database') = 'xai-runbook fills this database', false) AS marked
FROM pg_database d
WHERE d.datname ~ '^xai_(restoring|removing|scratch)_'
ORDER BY d.datname
