-- The operator: changes run as this role (`user` in [database.operator]), and only `xai-runbook apply` logs in with it.
-- Each line says which changes need it; leave out what you will not use. A change that lacks a right is refused.
--
-- Run it as a superuser (RDS: the master user) in the database that the settings name, then set a password:
--     psql -d xai_blockchain -f operator.sql
--     psql -d xai_blockchain -c '\password xai_operator'
-- PostgreSQL 12 and later. Replace xai_owner by the role that owns the database and its tables, and xai_operator for
-- another name. Never name a superuser as the owner: the operator could become one.

-- May log in. It is no superuser.
CREATE ROLE xai_operator LOGIN;

-- backups.restore: creates the new database.
ALTER ROLE xai_operator CREATEDB;

-- backups.base_backup: pg_basebackup. It also needs a line `host replication xai_operator ...` in pg_hba.conf.
-- RDS does not allow it: leave it out and use snapshots there.
ALTER ROLE xai_operator REPLICATION;

-- Every change: sees sessions, locks, sizes and settings, as the reader does.
GRANT pg_monitor TO xai_operator;

-- database.terminate and database.cancel: ends sessions and statements of other roles, except of superusers.
GRANT pg_signal_backend TO xai_operator;

-- database.vacuum, reindex, create_index, drop_invalid_indexes, analyze; backups.dump; restore over the live database.
GRANT xai_owner TO xai_operator;

DO $$
DECLARE
    allowed regprocedure;
BEGIN
    -- Every change: may connect, also where that was revoked from PUBLIC.
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO xai_operator', current_database());

    -- backups.restore: databases are created and renamed from a session in another database.
    GRANT CONNECT ON DATABASE postgres TO xai_operator;

    -- backups.dump: reads tables that other roles own.
    IF current_setting('server_version_num')::int >= 140000 THEN
        GRANT pg_read_all_data TO xai_operator;
    END IF;

    -- database.set_max_connections and set_up_statement_statistics: before 15 only a superuser may.
    IF current_setting('server_version_num')::int >= 150000 THEN
        EXECUTE 'GRANT ALTER SYSTEM ON PARAMETER max_connections, shared_preload_libraries TO xai_operator';
    END IF;

    -- The same two changes: pg_reload_conf. backups.low_level_backup: start and stop, whose names changed with 15.
    -- By hand, before backups.recover_to to a recent point: pg_switch_wal archives the segment that is being written.
    FOR allowed IN
        SELECT p.oid
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
          AND p.proname IN ('pg_reload_conf', 'pg_backup_start', 'pg_backup_stop', 'pg_start_backup', 'pg_stop_backup',
                            'pg_switch_wal')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO xai_operator', allowed);
    END LOOP;
END $$;
