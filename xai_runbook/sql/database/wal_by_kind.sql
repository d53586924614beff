-- WAL between two positions by resource manager.
SELECT "resource_manager/record_type" AS kind,
       count AS records,
       combined_size AS size_bytes,
       fpi_size AS page_image_bytes
FROM {schema}.pg_get_wal_stats(%(start)s::pg_lsn, %(until)s::pg_lsn, false)
WHERE count > 0
ORDER BY combined_size DESC
