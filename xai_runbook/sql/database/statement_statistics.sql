-- How far pg_stat_statements is set up: installed on the server, loaded, created in this database.
SELECT current_setting('shared_preload_libraries') AS libraries,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS available,
       (SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements') AS version
