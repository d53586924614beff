-- Compares the expected size of the rows, from their number and average column widths, with the size of the table.
-- pg_stats shows only columns that the role may read; a table without any of them is left out. The estimate ignores
-- alignment between columns, and counts values moved to TOAST as pointers.
WITH widths AS (
    SELECT schemaname, tablename, sum((1 - null_frac) * avg_width) AS row_bytes, count(*) AS known
    FROM pg_stats
    WHERE NOT inherited
    GROUP BY 1, 2
),
tables AS (
    SELECT c.oid, n.nspname, c.relname, c.reltuples, pg_relation_size(c.oid) AS heap_bytes, s.n_live_tup,
           current_setting('block_size')::float8 AS page,
           coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                     WHERE option_name = 'fillfactor'), 100) / 100 AS fillfactor,
           w.row_bytes
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN widths w ON w.schemaname = n.nspname AND w.tablename = c.relname
    LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.reltuples > 0
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
),
estimated AS (
    -- 24 bytes of row header and 4 of line pointer, aligned to 8; 24 of page header
    SELECT *, ceil(reltuples * (28 + 8 * ceil(row_bytes / 8)) / ((page - 24) * fillfactor)) * page AS expected_bytes FROM tables
)
SELECT nspname || '.' || relname AS name,
       heap_bytes,
       n_live_tup AS live_rows,
       NULL::bigint AS dead_bytes,
       greatest(heap_bytes - expected_bytes, 0)::bigint AS free_bytes,
       CASE WHEN heap_bytes > 0 THEN greatest(heap_bytes - expected_bytes, 0) / heap_bytes ELSE 0 END AS free_ratio,
       'estimate from column widths' AS method
FROM estimated
ORDER BY free_bytes DESC, name
LIMIT %(max_rows)s
