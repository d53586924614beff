-- Run inside xai_blockchain, before there is anything in it.
REVOKE ALL ON DATABASE xai_blockchain FROM PUBLIC;
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE xai_blockchain TO xai_app, xai_monitor, xai_operator;
GRANT CONNECT ON DATABASE postgres TO xai_operator;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO xai_owner;

-- Large objects are the way to write that every role has by default.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea),
    lo_truncate(integer, integer), lo_truncate64(integer, bigint), lo_unlink(oid), lowrite(integer, bytea) FROM PUBLIC;

CREATE EXTENSION pg_stat_statements;
CREATE EXTENSION amcheck;
-- pg_walinspect and the names of the backup functions came with 15.
DO $$
DECLARE
    wanted record;
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_walinspect') THEN
        CREATE EXTENSION pg_walinspect;
    END IF;
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgstattuple') THEN
        CREATE EXTENSION pgstattuple;
    END IF;
    -- The monitor may look at pages and count the WAL by kind; neither shows a row.
    FOR wanted IN
        SELECT p.oid::regprocedure AS function, CASE WHEN n.nspname = 'pg_catalog' THEN 'xai_operator' ELSE 'xai_monitor' END AS role
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE (n.nspname = 'pg_catalog' AND p.proname IN (
                'pg_backup_start', 'pg_backup_stop', 'pg_start_backup', 'pg_stop_backup', 'pg_switch_wal',
                'pg_reload_conf'))
           OR (n.nspname = 'public' AND p.proname IN ('bt_index_check', 'verify_heapam', 'pg_get_wal_stats'))
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', wanted.function, wanted.role);
    END LOOP;
END $$;
