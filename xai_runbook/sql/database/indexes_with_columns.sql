-- Valid B-trees of the table that begin with these columns in this order, as CREATE INDEX would make them: without a
-- condition, and with default collation, operator class and order for each column.
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
      FROM unnest(string_to_array(%(numbers)s, ' ')::int[]) WITH ORDINALITY o(number, position)
      JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = o.number
      JOIN pg_opclass c ON c.oid = x.indclass[o.position - 1]
      WHERE NOT c.opcdefault OR x.indcollation[o.position - 1] <> a.attcollation OR x.indoption[o.position - 1] <> 0)
