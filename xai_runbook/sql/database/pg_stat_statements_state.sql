-- Whether pg_stat_statements is loaded and created, in which schema and version. Queries on it depend on the version of
-- the extension, which a server upgrade does not change.
SELECT (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'pg_stat_statements') AS version,
       (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements') AS schema,
       current_setting('pg_stat_statements.max', true) IS NOT NULL AS loaded,
       current_setting('pg_stat_statements.track', true) AS track,
       pg_has_role('pg_read_all_stats', 'USAGE') AS texts_shown
