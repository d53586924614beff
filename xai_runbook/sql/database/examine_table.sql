-- Damage in a table's pages and rows, up to the first damaged page; no rows if there is none. Takes ACCESS SHARE.
SELECT blkno AS page, offnum AS item, attnum AS attribute, msg AS damage
FROM {schema}.verify_heapam(%(oid)s::oid::regclass, on_error_stop => true, check_toast => true)
ORDER BY 1, 2, 3
LIMIT 5
