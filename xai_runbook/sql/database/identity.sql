-- Which server answers, and as which role. Addresses can be reused, and a restored snapshot keeps its system
-- identifier, so both are returned.
-- system_identifier: "not readable" where a managed server forbids pg_control_system. A function without EXECUTE
-- privilege makes a statement fail even in an untaken CASE branch, so the call is a text that ts_stat runs only where
-- it is allowed (query_to_xml would do the same, but needs a build with libxml).
-- server_port: the port on which the server listens, the same by socket and through a forwarded port.
-- write_privileges: what allows this role to change something, regardless of default_transaction_read_only.
SELECT coalesce((SELECT word FROM ts_stat(CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
           THEN 'SELECT array_to_tsvector(ARRAY[system_identifier::text]) FROM pg_control_system()'
           ELSE 'SELECT NULL::tsvector WHERE false' END)), 'not readable') AS system_identifier,
       current_database()::text AS database,
       concat_ws(', ',
           CASE WHEN r.rolsuper THEN 'superuser' END,
           CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
           CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
           CASE WHEN pg_has_role(r.oid, d.datdba, 'member') THEN 'owner of the database' END,
           CASE WHEN NOT r.rolsuper AND EXISTS (
               SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_(toast|temp)'
                 AND has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
           ) THEN 'may write to tables' END,
           (SELECT string_agg(g.rolname::text, ', ' ORDER BY g.rolname) FROM pg_roles g
            WHERE g.rolname IN ('pg_signal_backend', 'pg_write_all_data', 'pg_write_server_files',
                                'pg_execute_server_program', 'pg_maintain', 'rds_superuser')
              AND pg_has_role(r.oid, g.oid, 'member') AND NOT r.rolsuper)) AS write_privileges,
       current_user::text AS role,
       coalesce(host(inet_server_addr()), 'socket') AS server_address,
       current_setting('port') AS server_port,
       current_setting('server_version') AS version,
       pg_is_in_recovery() AS in_recovery,
       pg_postmaster_start_time() AS started_at,
       d.oid::text AS database_oid
FROM pg_roles r, pg_database d
WHERE r.rolname = current_user AND d.datname = current_database()
