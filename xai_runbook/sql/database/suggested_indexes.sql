-- Where an index is probably missing, with the evidence. For foreign keys the columns are certain: each delete or key
-- update of a referenced row scans the referencing table. For tables with many sequential scans, the statistics show
-- how much is read but not by which condition; that needs EXPLAIN of the statements.
WITH counted AS (
    SELECT s.relid, s.schemaname, s.relname, s.seq_scan, s.seq_tup_read, coalesce(s.idx_scan, 0) AS idx_scan,
           s.n_live_tup
    FROM pg_stat_user_tables s
),
keys AS (
    SELECT k.conrelid, k.conname, k.conkey,
           ARRAY(SELECT a.attname::text
                 FROM unnest(k.conkey) WITH ORDINALITY o(number, position)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.number
                 ORDER BY o.position) AS columns,
           k.confrelid::regclass::text AS referred
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND NOT EXISTS (
          SELECT FROM pg_index x
          WHERE x.indrelid = k.conrelid AND x.indisvalid
            -- a partial index without the NULLs of the key is sufficient
            AND (x.indpred IS NULL OR pg_get_expr(x.indpred, x.indrelid) = (
                SELECT format('(%%I IS NOT NULL)', a.attname) FROM pg_attribute a
                WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1] AND cardinality(k.conkey) = 1))
            -- the index begins with the key's columns, in any order
            AND (x.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
      )
)
SELECT c.schemaname || '.' || c.relname AS "table",
       k.columns,
       'foreign key ' || k.conname || ' to ' || k.referred || ' has no index' AS evidence,
       c.seq_scan AS seq_scans, c.seq_tup_read AS rows_read, c.idx_scan AS index_scans,
       c.n_live_tup AS live_rows, pg_relation_size(c.relid) AS size_bytes,
       format('CREATE INDEX CONCURRENTLY ON %%I.%%I (%%s)', c.schemaname, c.relname,
              (SELECT string_agg(quote_ident(name), ', ' ORDER BY position)
               FROM unnest(k.columns) WITH ORDINALITY u(name, position))) AS statement
FROM keys k JOIN counted c ON c.relid = k.conrelid
WHERE c.n_live_tup >= %(min_table_rows)s
UNION ALL
SELECT c.schemaname || '.' || c.relname, NULL,
       c.seq_scan || ' sequential scans, of ' || c.seq_tup_read / c.seq_scan || ' rows each',
       c.seq_scan, c.seq_tup_read, c.idx_scan, c.n_live_tup, pg_relation_size(c.relid), NULL
FROM counted c
WHERE c.seq_scan >= %(min_seq_scans)s AND c.n_live_tup >= %(min_table_rows)s
  AND c.seq_tup_read / c.seq_scan >= c.n_live_tup / 2
ORDER BY rows_read DESC, "table"
LIMIT %(max_rows)s
