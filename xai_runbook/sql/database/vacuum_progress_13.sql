-- Progress of a vacuum or, since 13, of an analyze.
SELECT phase || ': ' || heap_blks_scanned || ' of ' || heap_blks_total || ' blocks scanned, '
       || heap_blks_vacuumed || ' vacuumed' AS description
FROM pg_stat_progress_vacuum
WHERE pid = %(pid)s
UNION ALL
SELECT 'analyzing, ' || phase || ': ' || sample_blks_scanned || ' of ' || sample_blks_total || ' blocks'
FROM pg_stat_progress_analyze
WHERE pid = %(pid)s
