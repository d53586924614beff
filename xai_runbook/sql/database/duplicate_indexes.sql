-- Indexes that another index of the same table covers: the same columns or, in a B-tree, the first of its columns, with
-- the same method, operator classes and parameters, collations, order and condition. A unique index is a duplicate only
-- of one that rejects the same rows at the same time. Indexes that something else requires are never duplicates.
WITH held AS (
\ir required_indexes.sql
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
           x.indexrelid IN (SELECT oid FROM held) AS required
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
    WHERE x.indisvalid AND x.indisready AND x.indislive AND NOT x.indisexclusion AND x.indnatts = x.indnkeyatts
)
SELECT n.nspname || '.' || a.relname AS name,
       n.nspname || '.' || t.relname AS "table",
       n.nspname || '.' || b.relname AS covered_by,
       pg_relation_size(a.indexrelid) AS size_bytes,
       pg_get_indexdef(a.indexrelid) AS definition,
       pg_get_indexdef(b.indexrelid) AS covering_definition
FROM shape a
JOIN shape b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid AND b.relam = a.relam AND b.relkind = a.relkind
    AND b.expressions = a.expressions AND b.condition = a.condition
    AND starts_with(b.keys, a.keys) AND starts_with(b.classes, a.classes)
    AND starts_with(b.collations, a.collations) AND starts_with(b.options, a.options)
    AND b.parameters[1:cardinality(a.parameters)] = a.parameters
JOIN pg_class t ON t.oid = a.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT a.required
  AND (NOT a.indisunique OR (b.indisunique AND b.keys = a.keys AND b.indimmediate = a.indimmediate
                             AND b.nulls_not_distinct = a.nulls_not_distinct))
  AND (a.keys = b.keys OR (a.ordered AND a.expressions = ''))
  AND (a.options_are_of_storage OR a.reloptions IS NOT DISTINCT FROM b.reloptions)
  -- of two equal indexes only one is a duplicate: the one that is not unique, else the one not required, else the newer
  AND (a.keys <> b.keys OR a.indisunique < b.indisunique OR b.required
       OR (a.indisunique = b.indisunique AND a.indexrelid > b.indexrelid))
ORDER BY size_bytes DESC, name
LIMIT %(max_rows)s
