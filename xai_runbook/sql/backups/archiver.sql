-- State of WAL archiving: the last success, the last failure, and how long the oldest finished segment has waited.
WITH waiting AS (
    SELECT count(*) AS waiting_count, extract(epoch FROM now() - min(modification))::float8 AS waiting_seconds
    FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}[.]ready$'
)
SELECT current_setting('archive_mode') AS mode,
       current_setting('wal_level') AS wal_level,
       archived_count,
       last_archived_wal,
       last_archived_time AS last_archived_at,
       failed_count,
       last_failed_wal,
       last_failed_time AS last_failed_at,
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing,
       waiting_count,
       coalesce(waiting_seconds, 0) AS waiting_seconds
FROM pg_stat_archiver, waiting
