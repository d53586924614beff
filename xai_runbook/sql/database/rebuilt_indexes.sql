-- Whether each index, given as "OLD_OID SCHEMA.INDEX", has been replaced by a new, valid one of the same name, as
-- REINDEX CONCURRENTLY does. leftover_count: invalid indexes that rebuilds have left on the table.
SELECT substr(t.item, strpos(t.item, ' ') + 1) AS name,
       coalesce(x.indisvalid AND x.indexrelid <> split_part(t.item, ' ', 1)::oid, false)
           AND NOT EXISTS (SELECT FROM pg_class o WHERE o.oid = split_part(t.item, ' ', 1)::oid) AS rebuilt,
       (SELECT count(*) FROM pg_index o JOIN pg_class c ON c.oid = o.indexrelid
        WHERE o.indrelid = x.indrelid AND NOT o.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$') AS leftover_count
FROM unnest(%(indexes)s::text[]) AS t(item)
LEFT JOIN (pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace)
    ON n.nspname || '.' || i.relname = substr(t.item, strpos(t.item, ' ') + 1)
