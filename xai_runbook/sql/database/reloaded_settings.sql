-- Whether these settings wait for a restart; NULL until the server has reloaded its configuration since then.
SELECT name, setting AS value,
       CASE WHEN pg_conf_load_time() > %(since)s::timestamptz THEN pending_restart END AS pending_restart
FROM pg_settings
WHERE name = ANY (%(names)s::text[])
ORDER BY name
