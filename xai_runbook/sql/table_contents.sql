-- Rows, and the sum of a hash of each row's text: the same whatever the order, another for any change.
SELECT count(*)::text AS rows,
       coalesce(sum(hashtextextended(t::text COLLATE "C", 0)::numeric), 0)::text AS checksum
FROM ONLY {table} AS t
