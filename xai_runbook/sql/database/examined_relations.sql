-- The tables that are named ("schema.table", as they are written, without quotes) and their B-trees. A partitioned
-- table stands for its partitions, which hold the rows. By oid: a name that is too long would be cut, and mean another.
WITH RECURSIVE named AS (
    SELECT c.oid, c.relkind, n.nspname || '.' || c.relname AS named
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname || '.' || c.relname = ANY (%(tables)s)
    UNION ALL
    SELECT c.oid, c.relkind, p.named
    FROM named p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
    WHERE p.relkind = 'p'
), tables AS (
    SELECT oid, named FROM named WHERE relkind <> 'p'
), relations AS (
    SELECT oid, named, 'table' AS kind FROM tables
    UNION ALL
    SELECT i.indexrelid, t.named, 'index'
    FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree'
    WHERE i.indisvalid AND i.indisready
)
SELECT r.oid::int8 AS oid, r.named, n.nspname || '.' || c.relname AS relation, r.kind, pg_relation_size(r.oid) AS size_bytes
FROM relations r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
ORDER BY r.named, r.kind DESC, relation
