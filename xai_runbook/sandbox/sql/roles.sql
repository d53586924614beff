-- Who may do what. Passwords are set at each start of a sandbox; the template has none.
CREATE ROLE xai_owner LOGIN;
CREATE ROLE xai_app LOGIN;
CREATE ROLE xai_monitor LOGIN;
CREATE ROLE xai_operator LOGIN CREATEDB REPLICATION;

-- Every query of the runbook runs as the monitor: it sees statistics and settings, no row of a table, and owns nothing.
GRANT pg_monitor TO xai_monitor;
ALTER ROLE xai_monitor SET default_transaction_read_only = on;

-- Changes run as the operator: it ends sessions, and vacuums, reindexes, dumps and restores what the owner owns.
GRANT pg_monitor, pg_signal_backend, xai_owner TO xai_operator;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_read_all_data') THEN  -- since 14
        GRANT pg_read_all_data TO xai_operator;
    END IF;
    IF current_setting('server_version_num')::int >= 150000 THEN  -- before, only a superuser may
        EXECUTE 'GRANT ALTER SYSTEM ON PARAMETER max_connections, shared_preload_libraries TO xai_operator';
    END IF;
END $$;
