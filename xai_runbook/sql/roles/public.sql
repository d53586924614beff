-- Optional: takes away what every role may write by default, so that the reader can change nothing at all. These lines
-- concern all roles. Before you run them on a production, make sure that no application relies on these rights; grant
-- them to the roles that do.
--
-- Run it as a superuser in the database that the settings name:
--     psql -d xai_blockchain -f public.sql
-- PostgreSQL 12 and later.

-- Temporary tables fill the disk.
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $$;

-- Before 15, every role may create tables and functions in the schema public.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Large objects: every role may create them and write to them.
REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea),
    lo_truncate(integer, integer), lo_truncate64(integer, bigint), lo_unlink(oid), lowrite(integer, bytea) FROM PUBLIC;
