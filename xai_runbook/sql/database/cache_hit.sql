-- Of the blocks that this database's sessions wanted since its statistics were reset; the rest came from the kernel's
-- cache or from disk, which PostgreSQL cannot tell apart.
SELECT datname::text AS target,
       blks_hit AS hits,
       blks_read AS reads,
       blks_hit::float8 / nullif(blks_hit + blks_read, 0) AS hit_ratio,
       stats_reset AS since
FROM pg_stat_database
WHERE datname = current_database()
