-- Begins a low-level backup that lasts as long as this session; exclusive ones, which outlived it, went with 15.
SELECT pg_start_backup(%(label)s, true, false)::text AS lsn
