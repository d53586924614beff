-- Number of rows, and the sum of a hash of each row's text: independent of their order, different after any change.
-- t.* is the whole row even if a column is named t. record_out instead of ::text, because a table may have its own cast
-- to text; functions with their schema, because f(t.*) may also mean the column f.
SELECT count(*)::text AS rows,
       coalesce(sum(hashtextextended(
           pg_catalog.textin(pg_catalog.record_out(t.*)) COLLATE "C", 0)::numeric), 0)::text AS checksum
FROM ONLY {table} AS t
