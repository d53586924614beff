-- The reader: every query of the runbook runs as this role (`user` in [database]). It sees statistics, sessions and
-- settings, but no row of a table, and it owns nothing. xai-runbook refuses a reader that can change something.
--
-- Run it as a superuser (RDS: the master user) in the database that the settings name, after the extensions were
-- created, then set a password:
--     psql -d xai_blockchain -f reader.sql
--     psql -d xai_blockchain -c '\password xai_monitor'
-- Run it again after an extension was added: it repeats nothing but the error that the role already exists.
-- PostgreSQL 12 and later. For another name, replace xai_monitor in this file.

-- May log in. Without further attributes it is no superuser and creates neither databases nor roles.
CREATE ROLE xai_monitor LOGIN;

-- Sees other roles' sessions and statements, server settings, standbys and slots, sizes and the WAL folder.
GRANT pg_monitor TO xai_monitor;

-- A second barrier only: the role itself may switch it off. What protects is that no right to write is granted.
ALTER ROLE xai_monitor SET default_transaction_read_only = on;

DO $$
DECLARE
    allowed regprocedure;
BEGIN
    -- May connect, also where that was revoked from PUBLIC.
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO xai_monitor', current_database());

    -- amcheck: looks for damaged tables and indexes (question `consistency`). pg_walinspect, since 15: counts the
    -- write-ahead log by kind (question `rollback_ratio`). Neither shows a row. Skipped where it is not installed.
    FOR allowed IN
        SELECT p.oid
        FROM pg_proc p
        JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid
        WHERE (e.extname = 'amcheck' AND p.proname IN ('bt_index_check', 'verify_heapam'))
           OR (e.extname = 'pg_walinspect' AND p.proname = 'pg_get_wal_stats')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO xai_monitor', allowed);
    END LOOP;
END $$;
