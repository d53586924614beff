-- Block reads of this database since the statistics' reset. Reads that miss shared buffers may still come from the
-- kernel's cache; PostgreSQL cannot distinguish that from the disk.
SELECT datname::text AS target,
       blks_hit AS hits,
       blks_read AS reads,
       blks_hit::float8 / nullif(blks_hit + blks_read, 0) AS hit_ratio,
       stats_reset AS since
FROM pg_stat_database
WHERE datname = current_database()
