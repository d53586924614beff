-- How far pg_stat_statements is set up: its files are there, it is loaded, its view is in this database.
SELECT current_setting('shared_preload_libraries') AS libraries,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS available,
       (SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements') AS version
