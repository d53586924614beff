-- The requested tables ("schema.table", unquoted) and their B-trees; the partitions of a partitioned table. Later steps
-- use the oid, since names of more than 63 bytes would be truncated to another name.
WITH RECURSIVE named AS (
    SELECT c.oid, c.relkind, n.nspname || '.' || c.relname AS requested_name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname || '.' || c.relname = ANY (%(tables)s)
    UNION ALL
    SELECT c.oid, c.relkind, p.requested_name
    FROM named p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
    WHERE p.relkind = 'p'
), tables AS (
    SELECT oid, requested_name FROM named WHERE relkind <> 'p'
), relations AS (
    SELECT oid, requested_name, 'table' AS kind FROM tables
    UNION ALL
    SELECT i.indexrelid, t.requested_name, 'index'
    FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree'
    WHERE i.indisvalid AND i.indisready
)
SELECT r.oid::int8 AS oid, r.requested_name, n.nspname || '.' || c.relname AS relation, r.kind, pg_relation_size(r.oid) AS size_bytes
FROM relations r JOIN pg_class c ON c.oid = r.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
ORDER BY r.requested_name, r.kind DESC, relation
