-- Begins a low-level backup that lasts as long as this session.
SELECT pg_backup_start(%(label)s, true)::text AS lsn
