-- Current values of these settings, and whether a changed value waits for a restart.
SELECT name, setting AS value, pending_restart
FROM pg_settings
WHERE name = ANY (%(names)s::text[])
ORDER BY name
