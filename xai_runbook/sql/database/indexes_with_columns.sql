-- Whole B-trees of that table whose first columns are these, in this order, and that are what CREATE INDEX would make
-- of them: no condition, and each column with its own collation, its type's class, ascending. One more is superfluous.
SELECT n.nspname || '.' || i.relname AS name, pg_get_indexdef(x.indexrelid) AS definition
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE x.indrelid = %(oid)s::bigint::oid
  AND x.indisvalid AND x.indisready AND x.indislive AND x.indpred IS NULL
  AND starts_with(x.indkey::text || ' ', %(numbers)s || ' ')
  AND i.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
  AND x.indnkeyatts >= cardinality(string_to_array(%(numbers)s, ' '))
  AND NOT EXISTS (
      SELECT
      FROM unnest(string_to_array(%(numbers)s, ' ')::int[]) WITH ORDINALITY o(number, place)
      JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = o.number
      JOIN pg_opclass c ON c.oid = x.indclass[o.place - 1]
      WHERE NOT c.opcdefault OR x.indcollation[o.place - 1] <> a.attcollation OR x.indoption[o.place - 1] <> 0)
