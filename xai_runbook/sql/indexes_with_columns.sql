-- Whole indexes of that table whose first columns are these, in this order, without a condition: one more is superfluous.
SELECT n.nspname || '.' || i.relname AS name, pg_get_indexdef(x.indexrelid) AS definition
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE x.indrelid = %(oid)s::bigint::oid
  AND x.indisvalid AND x.indpred IS NULL
  AND starts_with(x.indkey::text || ' ', %(numbers)s || ' ')
  AND i.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
