-- Reload, so that the server reports which settings wait for a restart.
SELECT pg_reload_conf() AS done
