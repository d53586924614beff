-- Which of these columns the table has, in the order in which they were named.
SELECT a.attname::text AS column, a.attnum AS number
FROM unnest(%(columns)s::text[]) WITH ORDINALITY AS u(name, place)
JOIN pg_attribute a ON a.attrelid = %(oid)s::bigint::oid AND a.attname = u.name AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY u.place
