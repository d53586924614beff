-- Before 15 there is no pg_walinspect: no rows.
SELECT NULL::text AS schema, false AS may_execute, NULL::text AS start, NULL::text AS until
WHERE %(bytes)s < 0
