-- Servers before 15 have no pg_walinspect: no rows, however much is asked for.
SELECT NULL::text AS schema, false AS may_count, NULL::text AS start, NULL::text AS until
WHERE %(bytes)s < 0
