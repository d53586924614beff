-- Start a non-exclusive low-level backup: it ends with this session. Returns where its WAL begins.
SELECT pg_start_backup(%(label)s, true, false)::text AS lsn
