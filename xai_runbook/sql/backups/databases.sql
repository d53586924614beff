-- The databases that one can connect to, without the templates.
SELECT datname::text AS database FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1
