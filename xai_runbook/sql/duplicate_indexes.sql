-- Indexes that another one of the same table makes superfluous: the same columns, or the first of the other's; the same
-- method, classes, collations, order, and no or the same condition. A unique one is superfluous only beside its equal.
WITH shape AS (
    SELECT x.*, i.relam, i.relname,
           x.indkey::text || ' ' AS keys, x.indclass::text || ' ' AS classes,
           x.indcollation::text || ' ' AS collations, x.indoption::text || ' ' AS options,
           coalesce(pg_get_expr(x.indexprs, x.indrelid), '') AS expressions,
           coalesce(pg_get_expr(x.indpred, x.indrelid), '') AS condition
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    WHERE x.indisvalid AND NOT x.indisexclusion AND x.indnatts = x.indnkeyatts
)
SELECT n.nspname || '.' || a.relname AS name,
       n.nspname || '.' || t.relname AS "table",
       n.nspname || '.' || b.relname AS covered_by,
       pg_relation_size(a.indexrelid) AS size_bytes,
       pg_get_indexdef(a.indexrelid) AS definition,
       pg_get_indexdef(b.indexrelid) AS definition_of_other
FROM shape a
JOIN shape b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid AND b.relam = a.relam
    AND b.expressions = a.expressions AND b.condition = a.condition
    AND starts_with(b.keys, a.keys) AND starts_with(b.classes, a.classes)
    AND starts_with(b.collations, a.collations) AND starts_with(b.options, a.options)
JOIN pg_class t ON t.oid = a.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = a.indexrelid)
  AND (NOT a.indisunique OR (b.indisunique AND b.keys = a.keys))
  AND (a.expressions = '' OR a.keys = b.keys)
  -- of two equals only one is superfluous: the one that is not unique, else the younger
  AND (a.keys <> b.keys OR a.indisunique < b.indisunique OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = b.indexrelid)
       OR (a.indisunique = b.indisunique AND a.indexrelid > b.indexrelid))
ORDER BY size_bytes DESC, name
LIMIT %(most)s
