-- How often each of these was vacuumed by hand since: "OID COUNT". NULL where the table has gone.
SELECT c.oid::regclass::text AS name,
       pg_stat_get_vacuum_count(c.oid) - split_part(t.told, ' ', 2)::bigint AS more_vacuums
FROM unnest(%(tables)s::text[]) AS t(told)
LEFT JOIN pg_class c ON c.oid = split_part(t.told, ' ', 1)::oid
