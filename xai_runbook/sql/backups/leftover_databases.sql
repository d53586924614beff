-- Databases named as those that we fill or remove: of what was interrupted they stay. ours: whether one bears our mark, by
-- which whoever made it is told from a namesake; in_use: whoever fills it still holds its lock, 7820 and the oid.
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
