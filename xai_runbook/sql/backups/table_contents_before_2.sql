-- Fingerprint version 1, of older manifests: if a table has a column t, it covers that column alone.
SELECT count(*)::text AS rows,
       coalesce(sum(hashtextextended(t::text COLLATE "C", 0)::numeric), 0)::text AS checksum
FROM ONLY {table} AS t
