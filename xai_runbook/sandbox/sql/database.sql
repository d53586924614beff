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
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal() TO xai_operator;
