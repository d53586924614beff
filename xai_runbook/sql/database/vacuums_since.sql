-- Manual vacuums of each table, given as "OID COUNT", since that count; NULL if the table no longer exists.
SELECT c.oid::regclass::text AS name,
       pg_stat_get_vacuum_count(c.oid) - split_part(t.item, ' ', 2)::bigint AS vacuum_count
FROM unnest(%(tables)s::text[]) AS t(item)
LEFT JOIN pg_class c ON c.oid = split_part(t.item, ' ', 1)::oid
