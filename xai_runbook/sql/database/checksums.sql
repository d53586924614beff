-- Checksum failures by database since the statistics' reset; NULL if data checksums are off. Checksums are verified
-- only when a page is read from disk.
SELECT coalesce(d.datname::text, 'shared catalogs') AS database,
       current_setting('data_checksums') = 'on' AS checksums_on,
       d.checksum_failures::float8 AS failures,
       d.checksum_last_failure AS last_failed_at,
       d.stats_reset AS counted_since
FROM pg_stat_database d
ORDER BY d.checksum_failures DESC NULLS LAST, d.datid
