-- By oid, so that no name needs quoting. A partitioned table is the sum of its partitions, which are not listed again.
-- total = heap + indexes + TOAST (with its index) + maps. Measuring opens each relation, which takes seconds for tens
-- of thousands; so the largest are chosen by relpages or, before the first vacuum, by the rows in the statistics.
WITH tables AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm')
      AND NOT c.relispartition
      AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
),
parts AS (
    SELECT oid AS parent, oid AS part FROM tables WHERE relkind <> 'p'
    UNION ALL
    SELECT t.oid, p.relid
    FROM tables t CROSS JOIN LATERAL pg_partition_tree(t.oid) p
    WHERE t.relkind = 'p' AND p.isleaf AND p.relid <> t.oid
),
index_pages AS (
    SELECT x.indrelid, sum(i.relpages) AS pages
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    GROUP BY x.indrelid
),
largest AS (
    SELECT t.*
    FROM tables t
    LEFT JOIN parts p ON p.parent = t.oid
    LEFT JOIN pg_class c ON c.oid = p.part
    LEFT JOIN pg_class o ON o.oid = c.reltoastrelid
    LEFT JOIN index_pages i ON i.indrelid = p.part
    GROUP BY t.oid, t.nspname, t.relname, t.relkind
    ORDER BY sum(CASE WHEN c.relpages > 0 THEN c.relpages::bigint
                      ELSE (pg_stat_get_live_tuples(c.oid) + pg_stat_get_dead_tuples(c.oid)) / 50 END
                 + coalesce(i.pages, 0) + coalesce(o.relpages, 0)) DESC NULLS LAST
    LIMIT %(max_rows)s
),
sizes AS (
    SELECT p.parent,
           count(*) AS parts,
           sum(pg_total_relation_size(p.part))::bigint AS total_bytes,
           sum(pg_relation_size(p.part))::bigint AS heap_bytes,
           sum(pg_indexes_size(p.part))::bigint AS index_bytes,
           sum(CASE WHEN c.reltoastrelid <> 0 THEN pg_total_relation_size(c.reltoastrelid) END)::bigint AS toast_bytes,
           sum(greatest(c.reltuples, 0))::bigint AS estimated_rows,
           sum(pg_stat_get_dead_tuples(p.part))::bigint AS dead_rows
    FROM largest l
    JOIN parts p ON p.parent = l.oid
    JOIN pg_class c ON c.oid = p.part
    GROUP BY p.parent
)
SELECT t.nspname || '.' || t.relname AS name,
       CASE t.relkind WHEN 'p' THEN 'partitioned table' WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
       CASE WHEN t.relkind = 'p' THEN coalesce(s.parts, 0) END AS partitions,
       coalesce(s.total_bytes, 0) AS total_bytes,
       coalesce(s.heap_bytes, 0) AS heap_bytes,
       coalesce(s.index_bytes, 0) AS index_bytes,
       coalesce(s.toast_bytes, 0) AS toast_bytes,
       coalesce(s.estimated_rows, 0) AS estimated_rows,
       coalesce(s.dead_rows, 0) AS dead_rows,
       t.oid::bigint AS oid
FROM largest t
LEFT JOIN sizes s ON s.parent = t.oid
ORDER BY total_bytes DESC, name
