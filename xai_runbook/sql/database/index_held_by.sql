-- Why that index must stay; no row where it may go.
SELECT DISTINCT reason FROM (
\ir indexes_held.sql
) held
WHERE oid = %(oid)s::bigint::oid
ORDER BY reason
