-- Where an index is likely to be missing, with the evidence. Foreign keys are sure of their columns: each delete or key
-- change of the row referred to reads the whole referring table. For tables that are read from end to end again and
-- again, the statistics know how much is read but not by which condition: the statements have to be explained.
WITH counted AS (
    SELECT s.relid, s.schemaname, s.relname, s.seq_scan, s.seq_tup_read, coalesce(s.idx_scan, 0) AS idx_scan,
           s.n_live_tup
    FROM pg_stat_user_tables s
),
keys AS (
    SELECT k.conrelid, k.conname, k.conkey,
           ARRAY(SELECT a.attname::text
                 FROM unnest(k.conkey) WITH ORDINALITY o(number, place)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.number
                 ORDER BY o.place) AS columns,
           k.confrelid::regclass::text AS referred
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND NOT EXISTS (
          SELECT FROM pg_index x
          WHERE x.indrelid = k.conrelid AND x.indisvalid
            -- one that leaves out only the NULLs of the key serves as well
            AND (x.indpred IS NULL OR pg_get_expr(x.indpred, x.indrelid) = (
                SELECT format('(%%I IS NOT NULL)', a.attname) FROM pg_attribute a
                WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1] AND cardinality(k.conkey) = 1))
            -- the key's columns in any order are the first of the index
            AND (x.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
      )
)
SELECT c.schemaname || '.' || c.relname AS "table",
       k.columns,
       'foreign key ' || k.conname || ' to ' || k.referred || ' has no index' AS evidence,
       c.seq_scan AS whole_reads, c.seq_tup_read AS rows_read, c.idx_scan AS index_scans,
       c.n_live_tup AS live_rows, pg_relation_size(c.relid) AS size_bytes,
       format('CREATE INDEX CONCURRENTLY ON %%I.%%I (%%s)', c.schemaname, c.relname,
              (SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
               FROM unnest(k.columns) WITH ORDINALITY u(name, place))) AS statement
FROM keys k JOIN counted c ON c.relid = k.conrelid
WHERE c.n_live_tup >= %(fewest_rows)s
UNION ALL
SELECT c.schemaname || '.' || c.relname, NULL,
       'read from end to end ' || c.seq_scan || ' times, ' || c.seq_tup_read / c.seq_scan || ' rows each time',
       c.seq_scan, c.seq_tup_read, c.idx_scan, c.n_live_tup, pg_relation_size(c.relid), NULL
FROM counted c
WHERE c.seq_scan >= %(fewest_reads)s AND c.n_live_tup >= %(fewest_rows)s
  AND c.seq_tup_read / c.seq_scan >= c.n_live_tup / 2
ORDER BY rows_read DESC, "table"
LIMIT %(most)s
