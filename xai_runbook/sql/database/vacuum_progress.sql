-- Progress of a vacuum.
SELECT phase || ': ' || heap_blks_scanned || ' of ' || heap_blks_total || ' blocks scanned, '
       || heap_blks_vacuumed || ' vacuumed' AS description
FROM pg_stat_progress_vacuum
WHERE pid = %(pid)s
