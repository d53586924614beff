-- What of these settings runs now, and whether the configuration says otherwise and waits for a restart.
SELECT name, setting AS value, pending_restart
FROM pg_settings
WHERE name = ANY (%(names)s::text[])
ORDER BY name
