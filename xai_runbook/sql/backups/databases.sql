-- Databases that accept connections, without templates.
SELECT datname::text AS database FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1
