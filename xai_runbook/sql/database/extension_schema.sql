-- Schema and version of an extension in this database; no row if it is not installed.
SELECT n.nspname::text AS schema, e.extversion AS version
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = %(name)s
