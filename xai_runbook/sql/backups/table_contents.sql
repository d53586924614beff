-- Rows, and the sum of a hash of each row's text: the same whatever the order, another for any change.
-- t.* is the whole row also where a column is named t; record_out and not ::text, because a table may have a cast to
-- text of its own; with their schema, because f(t.*) may also mean the column f.
SELECT count(*)::text AS rows,
       coalesce(sum(hashtextextended(
           pg_catalog.textin(pg_catalog.record_out(t.*)) COLLATE "C", 0)::numeric), 0)::text AS checksum
FROM ONLY {table} AS t
