-- Run inside xai_blockchain, before there is anything in it; then xai_runbook/sql/roles/.
REVOKE ALL ON DATABASE xai_blockchain FROM PUBLIC;
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE xai_blockchain TO xai_app;
GRANT USAGE, CREATE ON SCHEMA public TO xai_owner;

CREATE EXTENSION pg_stat_statements;
CREATE EXTENSION amcheck;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_walinspect') THEN  -- since 15
        CREATE EXTENSION pg_walinspect;
    END IF;
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgstattuple') THEN
        CREATE EXTENSION pgstattuple;
    END IF;
END $$;
