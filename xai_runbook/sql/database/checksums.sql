-- Pages whose checksum did not fit when they were read, by database, since its statistics began (NULL where data
-- checksums are off). Counted where a page came from disk only: a page that nobody reads is not noticed.
SELECT coalesce(d.datname::text, 'shared catalogs') AS database,
       current_setting('data_checksums') = 'on' AS checksums_on,
       d.checksum_failures::float8 AS failures,
       d.checksum_last_failure AS last_failed_at,
       d.stats_reset AS counted_since
FROM pg_stat_database d
ORDER BY d.checksum_failures DESC NULLS LAST, d.datid
