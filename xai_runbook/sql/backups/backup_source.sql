-- Facts about the source of a backup, for its manifest.
SELECT current_database()::text AS database,
       d.oid::text AS database_oid,
       current_setting('server_version') AS server_version,
       pg_encoding_to_char(d.encoding)::text AS encoding,
       d.datcollate::text AS collation,
       d.datctype::text AS ctype,
       -- since 15; datlocale was daticulocale before 17
       coalesce(to_jsonb(d) ->> 'datlocprovider', '') AS locale_provider,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', '') AS locale,
       coalesce(to_jsonb(d) ->> 'daticurules', '') AS icu_rules,
       pg_database_size(d.oid) AS database_bytes,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS lsn,
       (SELECT rolname::text FROM pg_roles WHERE rolsuper ORDER BY oid LIMIT 1) AS superuser,
       ARRAY(SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname) AS extensions
FROM pg_database d
WHERE d.datname = current_database()
