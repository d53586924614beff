-- pgstattuple_approx reads the pages that are not all visible, so only the largest tables are measured.
WITH largest AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    ORDER BY c.relpages DESC
    LIMIT %(max_rows)s
)
SELECT l.name,
       a.table_len AS heap_bytes,
       a.approx_tuple_count::bigint AS live_rows,
       a.dead_tuple_len AS dead_bytes,
       a.approx_free_space::bigint AS free_bytes,
       CASE WHEN a.table_len > 0 THEN (a.dead_tuple_len + a.approx_free_space)::float8 / a.table_len ELSE 0 END AS free_ratio,
       'pgstattuple' AS method
FROM largest l CROSS JOIN LATERAL {schema}.pgstattuple_approx(l.oid::regclass) a
ORDER BY a.dead_tuple_len + a.approx_free_space DESC, name
