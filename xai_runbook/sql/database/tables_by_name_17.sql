-- As tables_by_name.sql; since 17 the privilege MAINTAIN, or membership in pg_maintain, is sufficient.
WITH requested AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname || '.' || c.relname = ANY (%(names)s::text[])
      AND c.relkind IN ('r', 'p', 'm')
      AND c.relpersistence <> 't'
)
SELECT m.name AS requested_name,
       n.nspname::text AS schema,
       c.relname::text AS table,
       c.oid::bigint AS oid,
       c.relkind::text AS kind,
       o.rolname::text AS owner,
       n.nspname IN ('pg_catalog', 'information_schema') AS is_system,
       (SELECT bool_or(r.rolsuper OR pg_has_role(r.oid, c.relowner, 'USAGE') OR pg_has_role(r.oid, d.datdba, 'USAGE')
                       OR has_table_privilege(r.oid, c.oid, 'MAINTAIN'))
        FROM pg_roles r, pg_database d
        WHERE r.rolname = %(role)s AND d.datname = current_database()) AS may_maintain,
       (SELECT bool_or(r.rolsuper OR pg_has_role(r.oid, c.relowner, 'USAGE')) FROM pg_roles r
        WHERE r.rolname = %(role)s) AS owned_by_operator,
       coalesce(pg_stat_get_vacuum_count(c.oid), 0) AS vacuums
FROM requested m
CROSS JOIN LATERAL (
    SELECT m.oid AS relid UNION SELECT p.relid FROM pg_partition_tree(m.oid) p
) parts
JOIN pg_class c ON c.oid = parts.relid AND c.relkind IN ('r', 'm')
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles o ON o.oid = c.relowner
ORDER BY schema, "table"
