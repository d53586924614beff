-- As indexes_by_name.sql; since 17 the privilege MAINTAIN, or membership in pg_maintain, is sufficient.
SELECT n.nspname::text AS schema,
       i.relname::text AS index,
       x.indexrelid::bigint AS oid,
       x.indrelid::bigint AS table_oid,
       tn.nspname::text AS table_schema,
       t.relname::text AS "table",
       i.relkind::text AS kind,
       x.indisvalid AND x.indisready AND x.indislive AS valid,
       x.indisexclusion AS is_exclusion,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid) AS backs_constraint,
       n.nspname IN ('pg_catalog', 'information_schema') AS is_system,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
               WHERE p.relid = x.indrelid AND p.datname = current_database()) AS building,
       (SELECT bool_or(r.rolsuper OR pg_has_role(r.oid, t.relowner, 'USAGE')
                       OR has_table_privilege(r.oid, t.oid, 'MAINTAIN')) FROM pg_roles r
        WHERE r.rolname = %(role)s) AS may_maintain,
       (SELECT bool_or(r.rolsuper OR pg_has_role(r.oid, t.relowner, 'USAGE')) FROM pg_roles r
        WHERE r.rolname = %(role)s) AS owned_by_operator,
       pg_get_indexdef(x.indexrelid) AS definition
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = i.relnamespace
JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE n.nspname || '.' || i.relname = ANY (%(indexes)s::text[])
   OR (tn.nspname || '.' || t.relname = ANY (%(tables)s::text[]) AND t.relkind IN ('r', 'm'))
ORDER BY schema, index
