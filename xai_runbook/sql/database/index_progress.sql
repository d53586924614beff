-- Progress of an index build, and the transaction that it waits for.
SELECT phase
       || CASE WHEN blocks_total > 0 THEN ': ' || blocks_done || ' of ' || blocks_total || ' blocks' ELSE '' END
       || CASE WHEN tuples_total > 0 THEN ', ' || tuples_done || ' of ' || tuples_total || ' rows' ELSE '' END
       || CASE WHEN lockers_total > lockers_done THEN ', waiting for ' || lockers_total - lockers_done
               || ' transactions, now pid ' || current_locker_pid ELSE '' END AS description
FROM pg_stat_progress_create_index
WHERE pid = %(pid)s
