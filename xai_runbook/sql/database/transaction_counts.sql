-- Commits, rollbacks and other counters of each database since the statistics' reset.
SELECT d.datname::text AS database,
       s.xact_commit AS commits,
       s.xact_rollback AS rollbacks,
       s.deadlocks,
       s.conflicts,
       s.temp_files,
       s.temp_bytes,
       s.stats_reset AS counted_since
FROM pg_stat_database s JOIN pg_database d ON d.oid = s.datid
WHERE NOT d.datistemplate
ORDER BY s.xact_commit + s.xact_rollback DESC
