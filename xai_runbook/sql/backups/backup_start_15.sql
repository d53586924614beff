-- Start a low-level backup: it ends with this session. Returns where its WAL begins.
SELECT pg_backup_start(%(label)s, true)::text AS lsn
