-- Facts that the plan of a base backup depends on.
SELECT current_setting('server_version') AS server_version,
       current_setting('data_directory') AS data_directory,
       current_setting('wal_level') AS wal_level,
       current_setting('max_wal_senders')::int AS max_wal_senders,
       pg_is_in_recovery() AS in_recovery,
       EXISTS (SELECT FROM pg_roles WHERE rolname IN ('rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin')) AS hosted,
       (SELECT count(*) FROM pg_tablespace WHERE spcname !~ '^pg_') AS tablespace_count
