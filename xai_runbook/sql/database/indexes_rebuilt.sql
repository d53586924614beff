-- Whether each of these names is a whole index, and another one than before: "OID SCHEMA.INDEX". Rebuilding concurrently
-- makes a new index that takes the old one's name, and drops the old one. left_behind: what the rebuilding of its table has left, invalid.
SELECT substr(t.told, strpos(t.told, ' ') + 1) AS name,
       coalesce(x.indisvalid AND x.indexrelid <> split_part(t.told, ' ', 1)::oid, false)
           AND NOT EXISTS (SELECT FROM pg_class o WHERE o.oid = split_part(t.told, ' ', 1)::oid) AS rebuilt,
       (SELECT count(*) FROM pg_index o JOIN pg_class c ON c.oid = o.indexrelid
        WHERE o.indrelid = x.indrelid AND NOT o.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$') AS left_behind
FROM unnest(%(indexes)s::text[]) AS t(told)
LEFT JOIN (pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace)
    ON n.nspname || '.' || i.relname = substr(t.told, strpos(t.told, ' ') + 1)
