-- Indexes that another one of the same table makes superfluous: the same columns, or, in a B-tree, the first of the
-- other's; the same method, classes and their parameters, collations, order, and no or the same condition. A unique one
-- is superfluous only beside one that refuses the same rows at the same time. What must stay is never superfluous.
WITH held AS (
\ir indexes_held.sql
),
shape AS (
    SELECT x.*, i.relam, i.relname, i.relkind, i.reloptions, m.amname = 'btree' AS ordered,
           m.amname IN ('btree', 'hash') AS options_are_of_storage,
           x.indkey::text || ' ' AS keys, x.indclass::text || ' ' AS classes,
           x.indcollation::text || ' ' AS collations, x.indoption::text || ' ' AS options,
           ARRAY(SELECT coalesce(p.attoptions::text, '') FROM pg_attribute p
                 WHERE p.attrelid = x.indexrelid ORDER BY p.attnum) AS parameters,
           coalesce(to_jsonb(x) ->> 'indnullsnotdistinct', 'false') AS nulls_not_distinct,  -- since 15
           coalesce(pg_get_expr(x.indexprs, x.indrelid), '') AS expressions,
           coalesce(pg_get_expr(x.indpred, x.indrelid), '') AS condition,
           x.indexrelid IN (SELECT oid FROM held) AS stays
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
    WHERE x.indisvalid AND x.indisready AND x.indislive AND NOT x.indisexclusion AND x.indnatts = x.indnkeyatts
)
SELECT n.nspname || '.' || a.relname AS name,
       n.nspname || '.' || t.relname AS "table",
       n.nspname || '.' || b.relname AS covered_by,
       pg_relation_size(a.indexrelid) AS size_bytes,
       pg_get_indexdef(a.indexrelid) AS definition,
       pg_get_indexdef(b.indexrelid) AS definition_of_other
FROM shape a
JOIN shape b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid AND b.relam = a.relam AND b.relkind = a.relkind
    AND b.expressions = a.expressions AND b.condition = a.condition
    AND starts_with(b.keys, a.keys) AND starts_with(b.classes, a.classes)
    AND starts_with(b.collations, a.collations) AND starts_with(b.options, a.options)
    AND b.parameters[1:cardinality(a.parameters)] = a.parameters
JOIN pg_class t ON t.oid = a.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT a.stays
  AND (NOT a.indisunique OR (b.indisunique AND b.keys = a.keys AND b.indimmediate = a.indimmediate
                             AND b.nulls_not_distinct = a.nulls_not_distinct))
  AND (a.keys = b.keys OR (a.ordered AND a.expressions = ''))
  AND (a.options_are_of_storage OR a.reloptions IS NOT DISTINCT FROM b.reloptions)
  -- of two equals only one is superfluous: the one that is not unique, else the one that may go, else the younger
  AND (a.keys <> b.keys OR a.indisunique < b.indisunique OR b.stays
       OR (a.indisunique = b.indisunique AND a.indexrelid > b.indexrelid))
ORDER BY size_bytes DESC, name
LIMIT %(most)s
