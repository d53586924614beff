-- Which of these columns the table has, in the order of the names.
SELECT a.attname::text AS column, a.attnum AS number
FROM unnest(%(columns)s::text[]) WITH ORDINALITY AS u(name, position)
JOIN pg_attribute a ON a.attrelid = %(oid)s::bigint::oid AND a.attname = u.name AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY u.position
