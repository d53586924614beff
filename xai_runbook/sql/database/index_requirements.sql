-- Why this index is required; no row if it can be dropped.
SELECT DISTINCT reason FROM (
\ir required_indexes.sql
) held
WHERE oid = %(oid)s::bigint::oid
ORDER BY reason
