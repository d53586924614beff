-- The configuration is read again, so that the server itself says what waits for a restart.
SELECT pg_reload_conf() AS done
